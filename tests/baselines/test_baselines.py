import keras
import numpy as np
import pytest
from helpers import compiled, images, labels, layers_of

from keras_dynnets.baselines.mobilenet_v2 import MobileNetV2, build_mobilenet_v2
from keras_dynnets.baselines.resnet import NETWORKS, build_resnet
from keras_dynnets.core import cost

SMALL = [(build_resnet, "resnet20"), (build_mobilenet_v2, "mobilenetv2")]


@pytest.mark.parametrize(
    "builder, name, params",
    [(build_resnet, "resnet50", 25_557_032), (build_mobilenet_v2, "mobilenetv2", 3_504_872)],
)
def test_trainable_values(builder, name, params):
    model = builder(name, 1000, (64, 64, 3))
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == params


def test_mobilenet_has_the_kernels_of_keras_applications():
    def kernels(model):
        return [w.shape for layer in model.layers for w in layer.weights if "kernel" in w.path]

    ours = kernels(build_mobilenet_v2("mobilenetv2", 1000, (96, 96, 3)))
    theirs = kernels(keras.applications.MobileNetV2((96, 96, 3), weights=None))
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_resnet_has_the_kernels_of_keras_applications():
    """Theirs is version 1: its stride is in the first 1x1 convolution, which changes no shape."""

    def kernels(model):
        return [w.shape for layer in model.layers for w in layer.weights if "kernel" in w.path]

    ours = kernels(build_resnet("resnet50", 1000, (64, 64, 3)))
    theirs = keras.applications.ResNet50(input_shape=(64, 64, 3), weights=None, include_top=False)
    theirs = [*kernels(theirs), (2048, 1000)]
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_resnet20_by_hand():
    model = build_resnet("resnet20", 10, (32, 32, 3))
    kernels = 9 * (3 * 16 + 6 * 16**2 + (16 * 32 + 5 * 32**2) + (32 * 64 + 5 * 64**2))
    kernels += 16 * 32 + 32 * 64 + 640
    norms = 2 * (7 * 16 + 7 * 32 + 7 * 64)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == kernels + norms + 10
    macs = 32**2 * (9 * 3 * 16 + 9 * 6 * 16**2)
    macs += 16**2 * (9 * (16 * 32 + 5 * 32**2) + 16 * 32)
    macs += 8**2 * (9 * (32 * 64 + 5 * 64**2) + 32 * 64)
    assert cost.model_macs(model) == macs + 640


def test_stride_is_in_the_3x3_convolution():
    model = build_resnet("resnet50", 10, (64, 64, 3))
    strided = [c for c in layers_of(model, keras.layers.Conv2D) if c.strides == (2, 2)]
    assert sorted(c.kernel_size[0] for c in strided) == [1, 1, 1, 3, 3, 3, 7]
    assert all("shortcut" in c.name for c in strided if c.kernel_size == (1, 1))


def test_cifar_form_has_its_first_stage_at_half_size():
    model = build_resnet("resnet50_cifar", 10, (32, 32, 3))
    assert model.get_layer("stage1_block1_out").output.shape == (None, 16, 16, 256)
    assert model.get_layer("stage4_block3_out").output.shape == (None, 2, 2, 2048)


@pytest.mark.parametrize(
    "width, base, channels",
    [(1.0, 32, 32), (1.4, 32, 48), (1.4, 16, 24), (1.4, 320, 448), (0.35, 16, 8)],
)
def test_mobilenet_channels(width, base, channels):
    assert MobileNetV2(width).channels(base) == channels


@pytest.mark.parametrize("builder, name", SMALL)
def test_images_are_normalised_inside(builder, name):
    model = builder(name, 10, (32, 32, 3))
    normalise = model.get_layer("normalise")
    rgb = NETWORKS["resnet50" if name == "mobilenetv2" else name].rgb
    mean, deviation = (np.reshape(values, (1, 1, 1, 3)) for values in rgb)
    np.testing.assert_allclose(normalise(mean), np.zeros((1, 1, 1, 3)), atol=1e-5)
    np.testing.assert_allclose(normalise(mean + deviation), np.ones((1, 1, 1, 3)), atol=1e-5)


@pytest.mark.parametrize("builder, name", SMALL)
def test_fit_lowers_the_loss(builder, name):
    model = compiled(builder(name, 4, (32, 32, 3)), run_eagerly=True)
    history = model.fit(images(8, 32), labels(8, 4), batch_size=8, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_logits_are_float32_in_half_precision(half_precision):
    model = build_resnet("resnet20", 10, (32, 32, 3))
    assert keras.backend.standardize_dtype(model(images(2, 32)).dtype) == "float32"
    assert model.get_layer("stem_conv").compute_dtype == "float16"


def test_wrong_image_size():
    with pytest.raises(ValueError, match=r"expected shape=\(None, 32, 32, 3\)"):
        build_resnet("resnet20", 10, (32, 32, 3))(images(1, 16))
