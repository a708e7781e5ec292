import keras
import numpy as np
import pytest
from helpers import compiled, images, labels, tiny
from keras import layers

from keras_dynnets import zoo
from keras_dynnets.families.tissue.convert import stack_units
from keras_dynnets.layers import GroupedConv2D
from keras_dynnets.profile import count


def users_own(widths=(16, 16, 16), pools=(), **arguments):
    """A sequential CNN: 3x3 convolutions of these widths, pools after some of them."""
    model = keras.Sequential([keras.Input((16, 16, 3))])
    for i, width in enumerate(widths):
        model.add(
            layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{i}", **arguments)
        )
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
    found, wanted = (
        count(stack_units(zoo.load(base, None), **arguments).model),
        count(zoo.load(twin, None)),
    )
    assert (found.params, found.flops) == (wanted.params, wanted.flops)


def test_r_keeps_the_first_and_the_last_resolution():
    stacked = stack_units(zoo.load("resnet18_cifar", None), where="r")
    assert {name[: len("stage1")] for name in stacked.replaced} == {"stage2", "stage3"}
    assert stacked.kept["stem_conv"] == stacked.kept["stage4_block2_conv1"] == "not chosen by where"
    vgg = stack_units(zoo.load("vgg16_cifar", None), where="r")
    assert {name[: len("stage1")] for name in vgg.replaced} == {"stage2", "stage3", "stage4"}


def test_a_function_chooses():
    stacked = stack_units(
        users_own((16,) * 6), where=lambda layer: layer.name in ("conv3", "conv4", "conv5")
    )
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
        for a, b in zip(
            stacked.model.get_layer(name).get_weights(),
            model.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    found = [
        (c.groups, c.kernel.shape) for c in stacked.model.layers if isinstance(c, GroupedConv2D)
    ]
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
    assert (
        pair[0].activation is keras.activations.linear
        and pair[1].activation is keras.activations.relu
    )


def test_strides_stay():
    inputs = keras.Input((16, 16, 8))
    x = layers.Conv2D(16, 3, 2, "same", name="strided")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("elu")(x)
    model = keras.Model(inputs, layers.Conv2D(4, 1)(x))
    stacked = stack_units(model).model
    assert stacked.output_shape == model.output_shape
    first, norm, activation = (
        stacked.get_layer(f"strided_units{end}") for end in ("", "_bn", "_act")
    )
    assert (first.strides, stacked.get_layer("strided").strides) == ((1, 1), (2, 2))
    assert (
        isinstance(norm, layers.BatchNormalization)
        and activation.activation is keras.activations.elu
    )


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


# ---- graphs that are no plain chain


def model_of(inputs, x):
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def conv(name, filters=16, **arguments):
    return layers.Conv2D(filters, 3, padding="same", name=name, **arguments)


@pytest.mark.parametrize("shared", [True, False])
def test_one_activation_layer_for_the_whole_network(shared):
    one = layers.ReLU()
    relu = (lambda x: one(x)) if shared else (lambda x: layers.ReLU()(x))
    inputs = keras.Input((8, 8, 16))
    x = inputs
    for i in range(4):
        x = relu(conv(f"c{i}")(x))
    assert stack_units(model_of(inputs, x)).replaced == ("c1", "c2", "c3")
    inputs = keras.Input((8, 8, 3))
    x = relu(conv("stem")(inputs))
    for i in range(3):
        x = relu(layers.Add()([x, conv(f"b{i}_2")(relu(conv(f"b{i}_1")(x)))]))
    assert stack_units(model_of(inputs, x)).replaced == ("b0_1", "b1_1", "b2_1")


def test_activations_as_operations():
    inputs = keras.Input((8, 8, 16))
    x = inputs
    for i in range(4):
        x = keras.ops.relu(conv(f"c{i}")(x))
    assert stack_units(model_of(inputs, x)).replaced == ("c1", "c2", "c3")


def test_outputs_of_the_model_keep_their_shape():
    inputs = keras.Input((8, 8, 16))
    x = conv("c2")(conv("c1")(inputs))
    model = keras.Model(inputs, [x, conv("c3")(x)])
    assert stack_units(model).model.output_shape == model.output_shape


def test_branches_side_by_side():
    ends, inputs = [], []
    for name in "xy":
        inputs.append(keras.Input((8, 8, 16)))
        x = inputs[-1]
        for i in range(3):
            x = conv(f"{name}{i}", activation="relu")(x)
        ends.append(layers.GlobalAveragePooling2D()(x))
    stacked = stack_units(keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(ends))))
    assert sorted(stacked.replaced) == ["x1", "x2", "y1", "y2"]


def test_grouped_convolutions_do_not_mix():
    inputs = keras.Input((8, 8, 16))
    x = layers.MaxPooling2D()(conv("a")(inputs))
    x = layers.MaxPooling2D()(conv("grouped", groups=8)(x))
    stacked = stack_units(model_of(inputs, conv("b")(x)))
    assert stacked.replaced == ("a",) and "only a full layer mixes" in stacked.kept["b"]
    again = stack_units(stacked.model)
    assert again.replaced == ()


def test_models_inside_are_listed():
    base = keras.Sequential([keras.Input((8, 8, 16)), conv("inner1"), conv("inner2")], name="base")
    model = keras.Sequential(
        [keras.Input((8, 8, 16)), base, conv("own"), layers.GlobalAveragePooling2D()]
    )
    stacked = stack_units(model)
    assert stacked.replaced == ("own",) and stacked.kept == {"base": "a model inside the model"}


def test_new_units_train_whatever_was_frozen():
    model = users_own()
    model.trainable = False
    stacked = stack_units(model).model
    assert sorted(w.path for w in stacked.trainable_weights) == [
        f"{name}/{kind}" for name in ("conv1", "conv2") for kind in ("bias", "kernel")
    ]


def test_a_run_of_two_whose_first_cannot_be_replaced():
    inputs = keras.Input((8, 8, 3))
    stacked = stack_units(model_of(inputs, conv("c2")(conv("c1")(inputs))))
    assert stacked.replaced == ("c2",) and "mixes" in stacked.kept["c1"]


def test_a_run_that_units_lead_through_in_part():
    inputs = keras.Input((8, 8, 16))
    x = inputs
    for i, filters in enumerate((16, 16, 16, 3)):
        x = conv(f"c{i}", filters)(x)
    stacked = stack_units(model_of(inputs, x))
    assert stacked.replaced == ("c1", "c2")
    assert "do not lead from 16 to 3" in stacked.kept["c3"] or "mixes" in stacked.kept["c3"]


def test_the_users_activation_inside_a_pair():
    inputs = keras.Input((8, 8, 16))
    x = layers.LeakyReLU(0.3)(layers.BatchNormalization()(conv("c")(inputs)))
    copy = stack_units(model_of(inputs, x)).model.get_layer("c_units_act")
    assert isinstance(copy, layers.LeakyReLU) and copy.negative_slope == 0.3


def test_r_needs_a_size():
    inputs = keras.Input((None, None, 16))
    with pytest.raises(ValueError, match="the input size is open"):
        stack_units(model_of(inputs, conv("c")(inputs)), where="r")


def test_a_sequential_model_without_a_shape():
    with pytest.raises(ValueError, match="has no input shape yet"):
        stack_units(keras.Sequential([conv("c")]))


def test_an_adapted_normalization_goes_on_normalising():
    norm = layers.Normalization(name="norm")
    norm.adapt(images(20))
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            norm,
            layers.Conv2D(3, 1, name="only"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    np.testing.assert_allclose(stack_units(model).model(images(4)), model(images(4)), atol=1e-4)
