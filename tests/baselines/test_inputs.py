"""Images that a network cannot take are refused, and the message says what it takes."""

import helpers
import numpy as np
import pytest

from keras_dynnets import zoo
from keras_dynnets.dmnn import DMNN


@pytest.fixture(scope="module", params=["dmnn20", "resnet20"])
def model(request):
    return zoo.load(request.param, weights=None)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 28, 28, 3), r"expected shape=\(None, 32, 32, 3\), found shape=\(2, 28, 28, 3\)"),
        ((32, 32, 3), r"expected shape=\(None, 32, 32, 3\), found shape=\(32, 32, 3\)"),
        ((2, 32, 32, 1), "have value 3, but received input with shape"),
    ],
)
def test_a_wrong_shape(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model(np.zeros(shape, "float32"))


def test_text_is_no_image(model):
    with pytest.raises(ValueError, match="Invalid dtype"):
        model.predict(np.full((1, 32, 32, 3), "a"), verbose=0)


def test_whole_numbers_are_images_too(model):
    x = helpers.images(2, 32).round()
    of_integers = model.predict(x.astype("uint8"), verbose=0)
    np.testing.assert_array_equal(of_integers, model.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet18"}, "backbone 'resnet18' is unknown; it is one of resnet20"),
        ({"sub_blocks": 5}, r"sub_blocks \(N\) is 2, 3 or 4, not 5"),
        (
            {"backbone": "resnet20", "sub_blocks": 3},
            "a block of width 16 does not split into 3 equal sub-blocks",
        ),
        (
            {"backbone": "mobilenetv2", "sub_blocks": 3},
            "block stage1_block1 has 32 hidden channels, which do not split into 3",
        ),
        ({"target_rate": 0}, "target_rate is the share of .*above 0 and at most 1, not 0"),
        ({"target_rate": 1.2}, "above 0 and at most 1, not 1.2"),
        ({"num_classes": 0}, "num_classes must be 1 or more, not 0"),
    ],
)
def test_networks_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        DMNN(**{"backbone": "resnet20", "input_shape": (32, 32, 3), **arguments})
