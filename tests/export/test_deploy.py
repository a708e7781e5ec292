import helpers
import keras
import numpy as np
import pytest

from keras_dynnets import zoo
from keras_dynnets.export import deploy


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2"])
def test_folding_changes_no_result_and_leaves_no_batch_norm(name):
    model = helpers.settle(
        zoo.load(name, weights=None, input_shape=(64, 64, 3)), helpers.images(8, 64)
    )
    deployed = deploy(model)
    assert not helpers.layers_of(deployed, keras.layers.BatchNormalization)
    x = helpers.images(3, 64, seed=1)
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        deployed.predict(x, verbose=0), wanted, atol=1e-4 * max(1, np.abs(wanted).max())
    )


def test_a_batch_norm_that_follows_no_convolution_stays():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(inputs)
    x = keras.layers.Conv2D(4, 3)(x)
    y = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.Add()([x, y]))  # the convolution has two readers
    helpers.settle(model, helpers.images(8, 8))
    deployed = deploy(model)
    assert len(helpers.layers_of(deployed, keras.layers.BatchNormalization)) == 2
    images = helpers.images(2, 8, seed=1)
    np.testing.assert_allclose(
        deployed.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4
    )


def test_the_copy_shares_nothing_with_the_model():
    model = helpers.tiny()
    deployed = deploy(model.with_gates())
    x = helpers.images(2)
    before = deployed.predict(x, verbose=0)["logits"]
    for weight in model.trainable_weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(deployed.predict(x, verbose=0)["logits"], before)


@pytest.mark.parametrize("execution", ["masked", "sparse", "all"])
def test_every_form_of_a_deployed_dmnn(execution):
    model = helpers.scatter_gates(helpers.settle(helpers.tiny(), helpers.images(16)))
    if execution == "all":
        helpers.force_gates(model, np.ones((3, 2)))
    x = helpers.images(6, seed=1)
    found = deploy(model.with_gates(), execution).predict(x, verbose=0)["logits"]
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-4)


def test_shared_layers_and_other_axes_do_not_fold():
    inputs = keras.Input((8, 8, 3))
    norm, conv = keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 3)
    x = norm(keras.layers.Conv2D(3, 3, padding="same")(inputs)) + norm(
        keras.layers.Conv2D(3, 3, padding="same")(inputs)
    )
    y = keras.layers.BatchNormalization(axis=1)(conv(x)) + conv(x)
    model = helpers.settle(keras.Model(inputs, y), helpers.images(8, 8))
    images = helpers.images(2, 8, seed=1)
    wanted = model.predict(images, verbose=0)
    np.testing.assert_allclose(
        deploy(model).predict(images, verbose=0), wanted, atol=1e-4 * np.abs(wanted).max()
    )
