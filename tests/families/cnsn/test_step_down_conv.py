import keras
import numpy as np
import pytest

from keras_dynnets.layers import StepDownConv2D


@pytest.mark.parametrize(
    "image, shape, kernel, strides, params",
    [
        ((32, 32, 3), (16, 16, 64), (2, 2), (2, 2), 832),  # the paper's two
        ((32, 32, 3), (4, 4, 256), (8, 8), (8, 8), 49_408),
        ((299, 299, 3), (35, 35, 8), (27, 27), (8, 8), 27 * 27 * 3 * 8 + 8),
        ((20, 30, 1), (20, 7, 2), (1, 6), (1, 4), 14),
    ],
)
def test_leads_from_images_to_maps(image, shape, kernel, strides, params):
    layer = StepDownConv2D.between(image, shape)
    assert (layer.kernel_size, layer.strides) == (kernel, strides)
    assert layer(np.zeros((2, *image))).shape == (2, *shape)
    assert layer.count_params() == params


def test_every_pixel_counts():
    layer = StepDownConv2D.between((11, 13, 1), (3, 4, 2), kernel_initializer="ones")
    image = np.zeros((1, 11, 13, 1), "float32")
    layer(image)
    for row in range(11):
        for column in range(13):
            image[0, row, column] = 1
            assert np.any(layer(image)), (row, column)
            image[0, row, column] = 0


def test_config_round_trip():
    layer = StepDownConv2D(4, 5, 3, use_bias=False, name="entrance")
    copy = StepDownConv2D.from_config(layer.get_config())
    assert (copy.filters, copy.kernel_size, copy.strides, copy.use_bias) == (
        4,
        (5, 5),
        (3, 3),
        False,
    )
    assert (
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).name
        == "entrance"
    )


def test_refusals():
    with pytest.raises(
        ValueError, match="windows of .2, 2. pixels at strides of .3, 3. leave pixels out"
    ):
        StepDownConv2D(4, 2, 3)
    with pytest.raises(ValueError, match="maps as large or smaller"):
        StepDownConv2D.between((8, 8, 3), (16, 16, 4))
    with pytest.raises(ValueError, match="of known sizes"):
        StepDownConv2D.between((None, 8, 3), (4, 4, 4))
