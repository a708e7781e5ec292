import keras
import numpy as np
import pytest
from helpers import compiled, images, labels, layers_of

from keras_dynnets import cost
from keras_dynnets.models import mobilenet_v2, resnet
from keras_dynnets.models.mobilenet_v2 import MobileNetV2
from keras_dynnets.models.resnet import NETWORKS

# The same networks by other hands: keras.applications counts batch norm's statistics among its parameters.
REFERENCE = {
    "resnet50": (resnet, lambda: keras.applications.ResNet50(weights=None), 25_557_032),
    "mobilenetv2": (mobilenet_v2, lambda: keras.applications.MobileNetV2(weights=None), 3_504_872),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_trainable_values(name):
    builder, _, params = REFERENCE[name]
    model = builder(name, 1000, (64, 64, 3))
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == params


def test_mobilenet_has_the_kernels_of_keras_applications():
    def kernels(model):
        return [w.shape for layer in model.layers for w in layer.weights if "kernel" in w.path]

    ours = kernels(mobilenet_v2("mobilenetv2", 1000, (96, 96, 3)))
    theirs = kernels(keras.applications.MobileNetV2((96, 96, 3), weights=None))
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_resnet_has_the_kernels_of_keras_applications():
    """Kernel by kernel; theirs is v1, with the stride in the first 1x1 convolution, which changes no shape."""

    def kernels(model):
        return [w.shape for layer in model.layers for w in layer.weights if "kernel" in w.path]

    ours = kernels(resnet("resnet50", 1000, (64, 64, 3)))
    theirs = kernels(keras.applications.ResNet50(input_shape=(64, 64, 3), weights=None, include_top=False))
    theirs.append((2048, 1000))
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_resnet20_by_hand():
    model = resnet("resnet20", 10, (32, 32, 3))
    kernels = 9 * 3 * 16 + 9 * (6 * 16**2 + (16 * 32 + 5 * 32**2) + (32 * 64 + 5 * 64**2)) + 16 * 32 + 32 * 64 + 640
    norms = 2 * (7 * 16 + 7 * 32 + 7 * 64)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == kernels + norms + 10
    macs = 32**2 * (9 * 3 * 16 + 9 * 6 * 16**2)
    macs += 16**2 * (9 * (16 * 32 + 5 * 32**2) + 16 * 32)
    macs += 8**2 * (9 * (32 * 64 + 5 * 64**2) + 32 * 64)
    assert cost.model_macs(model) == macs + 640


def test_stride_is_in_the_3x3_convolution():
    strided = [c for c in layers_of(resnet("resnet50", 10, (64, 64, 3)), keras.layers.Conv2D) if c.strides == (2, 2)]
    assert sorted(c.kernel_size[0] for c in strided) == [1, 1, 1, 3, 3, 3, 7]
    assert all("shortcut" in c.name for c in strided if c.kernel_size == (1, 1))


def test_cifar_form_has_its_first_stage_at_half_size():
    model = resnet("resnet50_cifar", 10, (32, 32, 3))
    assert model.get_layer("stage1_block1_out").output.shape == (None, 16, 16, 256)
    assert model.get_layer("stage4_block3_out").output.shape == (None, 2, 2, 2048)


@pytest.mark.parametrize(
    "width, base, channels", [(1.0, 32, 32), (1.4, 32, 48), (1.4, 16, 24), (1.4, 320, 448), (0.35, 16, 8)]
)
def test_mobilenet_channels(width, base, channels):
    assert MobileNetV2(width).channels(base) == channels


@pytest.mark.parametrize("builder, name", [(resnet, "resnet20"), (mobilenet_v2, "mobilenetv2")])
def test_images_are_normalised_inside(builder, name):
    model = builder(name, 10, (32, 32, 3))
    normalise = model.get_layer("normalise")
    rgb = NETWORKS["resnet50" if name == "mobilenetv2" else name].rgb
    np.testing.assert_allclose(normalise(np.full((1, 1, 1, 3), rgb[0], "float32")), np.zeros((1, 1, 1, 3)), atol=1e-5)
    np.testing.assert_allclose(normalise(np.add([[[rgb[0]]]], [[[rgb[1]]]])), np.ones((1, 1, 1, 3)), atol=1e-5)


@pytest.mark.parametrize("builder, name", [(resnet, "resnet20"), (mobilenet_v2, "mobilenetv2")])
def test_fit_lowers_the_loss(builder, name):
    model = compiled(builder(name, 4, (32, 32, 3)), run_eagerly=True)
    losses = model.fit(images(8, 32), labels(8, 4), batch_size=8, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_logits_are_float32_in_half_precision(half_precision):
    model = resnet("resnet20", 10, (32, 32, 3))
    assert keras.backend.standardize_dtype(model(images(2, 32)).dtype) == "float32"
    assert model.get_layer("stem_conv").compute_dtype == "float16"


def test_wrong_image_size():
    with pytest.raises(ValueError, match=r"expected shape=\(None, 32, 32, 3\)"):
        resnet("resnet20", 10, (32, 32, 3))(images(1, 16))
