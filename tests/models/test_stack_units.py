import keras
import numpy as np
import pytest
from helpers import compiled, images, labels, tiny
from keras import layers

from keras_dynnets import zoo
from keras_dynnets.layers import GroupedConv2D
from keras_dynnets.models.tissue import stack_units
from keras_dynnets.profile import count


def users_own(widths=(16, 16, 16), pools=(), **arguments):
    """A sequential CNN: 3x3 convolutions of these widths, pools after some of them."""
    model = keras.Sequential([keras.Input((16, 16, 3))])
    for i, width in enumerate(widths):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{i}", **arguments))
        if i in pools:
            model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, name="head"))
    return model


@pytest.mark.parametrize(
    "base, twin, arguments",
    [
        ("vgg16_cifar", "tissue_vgg16", {"hidden": 4}),
        ("vgg19", "tissue_vgg19", {"hidden": 6}),
        ("resnet18_cifar", "tissue_resnet18", {"hidden": 6}),
    ],
)
def test_the_zoos_networks_come_out(base, twin, arguments):
    found, wanted = count(stack_units(zoo.load(base, None), **arguments).model), count(zoo.load(twin, None))
    assert (found.params, found.flops) == (wanted.params, wanted.flops)


def test_r_keeps_the_first_and_the_last_resolution():
    stacked = stack_units(zoo.load("resnet18_cifar", None), where="r")
    assert {name[: len("stage1")] for name in stacked.replaced} == {"stage2", "stage3"}
    assert stacked.kept["stem_conv"] == stacked.kept["stage4_block2_conv1"] == "not chosen by where"
    vgg = stack_units(zoo.load("vgg16_cifar", None), where="r")
    assert {name[: len("stage1")] for name in vgg.replaced} == {"stage2", "stage3", "stage4"}


def test_a_function_chooses():
    stacked = stack_units(users_own((16,) * 6), where=lambda layer: layer.name in ("conv3", "conv4", "conv5"))
    assert stacked.replaced == ("conv4", "conv5")
    assert stacked.kept["conv0"] == "not chosen by where" and "mixes" in stacked.kept["conv3"]


def test_every_convolution_is_replaced_or_listed():
    model = zoo.load("resnet50_cifar", None)
    stacked = stack_units(model)
    convolutions = [layer.name for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert sorted([*stacked.replaced, *stacked.kept]) == sorted(convolutions)
    assert len(stacked.replaced) == 16 and all(name.endswith("conv2") for name in stacked.replaced)


def test_what_stays_keeps_its_weights_and_units_are_where_they_should_be():
    model = users_own()
    stacked = stack_units(model, hidden=3)
    assert stacked.replaced == ("conv1", "conv2")
    for name in ("conv0", "head"):
        for a, b in zip(stacked.model.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    found = [(c.groups, c.kernel.shape) for c in stacked.model.layers if isinstance(c, GroupedConv2D)]
    assert found == [(8, (3, 3, 2, 24)), (8, (3, 3, 3, 16))]
    assert model.get_layer("conv1").kernel.shape == (3, 3, 16, 16)  # the user's is left alone


def test_convolutions_between_pools():
    """One alone becomes a pair; the next one mixes, and so does not."""
    stacked = stack_units(users_own((16, 32, 32, 32), pools=(0, 1, 2)))
    assert stacked.replaced == ("conv1", "conv3")
    assert "only a full layer mixes" in stacked.kept["conv2"]
    assert "do not lead from 3 to 16" in stacked.kept["conv0"]
    pair = [stacked.model.get_layer(name) for name in ("conv1_units", "conv1_units_act", "conv1")]
    assert (pair[0].filters, pair[2].filters, pair[2].groups) == (32, 32, 8)
    assert pair[0].activation is keras.activations.linear and pair[1].activation is keras.activations.relu


def test_strides_stay():
    inputs = keras.Input((16, 16, 8))
    x = layers.Conv2D(16, 3, 2, "same", name="strided")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("elu")(x)
    model = keras.Model(inputs, layers.Conv2D(4, 1)(x))
    stacked = stack_units(model).model
    assert stacked.output_shape == model.output_shape
    first, norm, activation = (stacked.get_layer(f"strided_units{end}") for end in ("", "_bn", "_act"))
    assert (first.strides, stacked.get_layer("strided").strides) == ((1, 1), (2, 2))
    assert isinstance(norm, layers.BatchNormalization) and activation.activation is keras.activations.elu


@pytest.mark.parametrize(
    "layer, reason",
    [
        (layers.Conv2D(8, 1), "1x1"),
        (layers.Conv2D(8, 3), "padding"),
        (layers.Conv2D(8, 3, padding="same", dilation_rate=2), "dilated"),
        (layers.Conv2D(8, 3, padding="same", groups=2), "no plain full convolution"),
        (GroupedConv2D(8, 3, padding="same"), "no plain full convolution"),
        (layers.Conv2D(9, 3, padding="same"), "do not lead from 8 to 9"),
    ],
)
def test_what_cannot_be_replaced_is_left_alone(layer, reason):
    inputs = keras.Input((8, 8, 8))
    stacked = stack_units(keras.Model(inputs, layer(inputs)))
    assert stacked.replaced == () and reason in stacked.kept[layer.name]


def test_a_shared_convolution_is_left_alone():
    shared = layers.Conv2D(8, 3, padding="same")
    inputs = keras.Input((8, 8, 8))
    stacked = stack_units(keras.Model(inputs, shared(shared(inputs))))
    assert stacked.kept == {shared.name: "called more than once"}


def test_it_trains():
    model = compiled(stack_units(users_own()).model, learning_rate=0.1)
    x, y = images(32), labels(32)
    history = model.fit(x / 255, y, epochs=3, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(history).all()


@pytest.mark.parametrize(
    "model, arguments, message",
    [
        (tiny, {}, "a functional or Sequential Keras model, not DMNN"),
        (lambda: "vgg", {}, "not str"),
        (users_own, {"hidden": 0}, "hidden is the width of a unit"),
        (users_own, {"hidden": 2.5}, "hidden is the width of a unit"),
        (users_own, {"where": "some"}, "not 'some'"),
        (users_own, {"where": None}, "not None"),
    ],
)
def test_refusals(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        stack_units(model(), **arguments)
