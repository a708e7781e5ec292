import keras
import pytest
from keras import layers

from keras_dynnets import zoo
from keras_dynnets.families.cnsn.cuts import Cuts, cut_points
from keras_dynnets.profile import count


def residual():
    """A stem, a block with a shortcut, one more convolution, a head."""
    images = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255, name="scale")(images)
    x = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    y = layers.Conv2D(8, 3, padding="same", name="block_conv1")(x)
    y = layers.ReLU(name="block_relu")(y)
    y = layers.Conv2D(8, 3, padding="same", name="block_conv2")(y)
    x = layers.Add(name="block_add")([x, y])
    x = layers.Conv2D(4, 3, 2, padding="same", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(10, name="logits")(x), name="residual")


def test_legal_cuts_of_a_residual_network():
    points = cut_points(residual())
    assert [p.name for p in points] == ["stem", "block_add", "last"]
    assert [p.shape for p in points] == [(16, 16, 8), (16, 16, 8), (8, 8, 4)]
    assert [(p.kernel_size, p.strides) for p in points] == [((1, 1), (1, 1))] * 2 + [
        ((2, 2), (2, 2))
    ]
    head, last, block = 40, 64 * 9 * 8 * 4, 2 * 256 * 9 * 64
    entrance = 256 * 3 * 8
    assert [p.macs for p in points] == [
        entrance + block + last + head,
        entrance + last + head,
        64 * 12 * 4 + head,
    ]


def test_images_are_read_behind_the_preprocessing():
    cuts = Cuts(residual())
    assert cuts.images is cuts.nodes[0].outputs[0] and cuts.nodes[0].operation.name == "scale"


def test_macs_are_those_of_the_detached_model():
    model = zoo.load("cnsn_resnet18", weights=None)
    points = {p.name: p.macs for p in cut_points(model.base)}
    for name, cut in (("sub1", "stage1_block2_out"), ("sub2", "stage2_block2_out")):
        assert points[cut] == count(model.part(name)).macs


def test_a_cut_inside_a_branch_is_refused_with_the_nearest_ones():
    with pytest.raises(
        ValueError,
        match="behind 'block_relu': what follows needs more than its result: stem; the nearest "
        "legal cuts are 'stem', 'block_add'",
    ):
        Cuts(residual()).find("block_relu")


@pytest.mark.parametrize(
    "cut, message",
    [
        ("nothing", "has no layer 'nothing'.*legal cuts are 'stem'"),
        ("pool", "no feature map"),
        ("scale", "nothing would be left out"),
    ],
)
def test_other_refusals(cut, message):
    with pytest.raises(ValueError, match=message):
        Cuts(residual()).find(cut)


def test_a_block_is_cut_behind_its_last_layer():
    assert Cuts(residual()).find("block").name == "block_add"


def test_unknown_costs_are_no_hindrance():
    class Own(layers.Layer):
        def call(self, x):
            return keras.ops.fft((x, x))[0]

    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(images)
    x = layers.GlobalAveragePooling2D()(Own(name="own")(x))
    points = cut_points(keras.Model(images, layers.Dense(2)(x)))
    assert [(p.name, p.macs is None) for p in points] == [("conv", True), ("own", False)]


def test_models_that_cannot_be_followed():
    two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="takes a network with one input, images of a fixed size"):
        cut_points(keras.Model(two, layers.Add()(list(two))))
    with pytest.raises(ValueError, match="of a fixed size"):
        images = keras.Input((None, None, 3))
        cut_points(keras.Model(images, layers.Conv2D(2, 3)(images)))
    with pytest.raises(ValueError, match="functional or Sequential"):
        cut_points(zoo.load("dmnn20", weights=None))


@pytest.mark.slow
def test_networks_of_keras_applications():
    base = keras.applications.ResNet50(
        weights=None, input_shape=(64, 64, 3), classifier_activation=None
    )
    names = [p.name for p in cut_points(base)]
    assert {"pool1_pool", "conv2_block3_out", "conv5_block3_out"} <= set(names)
    assert not any(name.endswith("_relu") and "block" in name for name in names)
