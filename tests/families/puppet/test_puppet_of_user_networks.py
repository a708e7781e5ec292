import keras
import numpy as np
import pytest
from helpers import assert_close, compiled, images, labels
from keras import layers

from keras_dynnets import puppet


def user_network(*tail, head=4):
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    for layer in tail:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(head)(layers.GlobalAveragePooling2D()(x)), name="user")


def test_other_layers_keep_their_weights():
    x = inputs = keras.Input((16, 16, 3))
    x = layers.ReLU()(layers.Conv2D(16, 5, strides=2)(x))
    network = keras.Model(
        inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x)), name="dense_head"
    )
    model = puppet.puppeteer(network, "parameters", levels=2)
    assert {w.path for w in model.weights if "head" in w.path} == {"head/kernel", "head/bias"}
    model.calibrate(images(20))
    assert_close(model.predict(images(4), verbose=0), model(images(4)))


def test_other_layers_are_told_whether_it_is_training():
    x = images(32)
    inner = keras.Sequential([keras.Input((16, 16, 8)), layers.BatchNormalization()], name="inner")
    model = puppet.puppeteer(user_network(layers.Dropout(0.5), inner), levels=2)
    model.calibrate(x)
    first, again = (np.asarray(model(x, training=True)) for _ in range(2))
    assert np.abs(first - again).max() > 0.01
    np.testing.assert_array_equal(model(x), model(x))
    before = np.array(inner.layers[0].moving_mean)
    compiled(model).fit(x, labels(32, 4), verbose=0)
    assert (
        np.abs(np.array(model.plan.network.get_layer("inner").layers[0].moving_mean) - before).max()
        > 0
    )
    model = puppet.puppeteer(
        user_network(layers.RandomFlip(), layers.RandomRotation(0.3)), levels=2
    )
    model.calibrate(x)
    np.testing.assert_array_equal(model(x), model(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-4)


def test_norms_behind_dense_layers_and_no_norms_at_all():
    x, y = images(32), labels(32, 4)
    inputs = keras.Input((16, 16, 3))
    z = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(inputs))
    without = keras.Model(inputs, layers.Dense(4)(z), name="without")
    model = compiled(puppet.puppeteer(without, adapt="none", levels=1))
    model.fit(x, y, verbose=0)
    z = layers.BatchNormalization()(layers.Dense(12)(z))
    model = compiled(
        puppet.puppeteer(keras.Model(inputs, layers.Dense(4)(z), name="behind"), levels=2)
    )
    model.fit(x, y, verbose=0)
    assert np.isfinite(model.evaluate(x, y, verbose=0)[0])
    assert_close(model.predict(x, verbose=0), model(x))


@pytest.mark.parametrize("adapt", ["parameters", "depth"])
def test_a_convolution_that_is_called_twice(adapt):
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    between = [
        layers.ReLU(),
        shared,
        layers.ReLU(),
        layers.Conv2D(8, 3, padding="same"),
        layers.ReLU(),
        shared,
    ]
    model = puppet.puppeteer(user_network(*between), adapt, levels=3)
    x = images(48)
    model.calibrate(x)
    assert_close(model.predict(x, verbose=0), model(x))
    assert model.plan.droppable == 1, "only the convolution between the two calls"


def test_a_loss_inside_keeps_its_layers():
    between = [
        layers.Conv2D(8, 3, padding="same"),
        layers.ActivityRegularization(l2=0.01),
        layers.ReLU(),
    ]
    model = compiled(puppet.puppeteer(user_network(*between), levels=2))
    assert model.plan.droppable == 0
    assert np.isfinite(model.fit(images(16), labels(16, 4), verbose=0).history["loss"]).all()
