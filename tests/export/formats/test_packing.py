"""How many groups of a convolution each format computes as one."""

import pytest

from keras_dynnets.export.formats import litert
from keras_dynnets.export.formats.onnx import format as onnx

PACKING = {"litert": litert.FORMAT.packing, "onnx": onnx.FORMAT.packing}


@pytest.mark.parametrize("format", PACKING)
@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"), [(32, 2, 4), (12, 2, 2), (5, 2, 2), (64, 16, 16), (256, 1, 1)]
)
def test_packing_divides_the_groups(format, groups, inputs, outputs):
    for positions in (None, 1, 64, 256, 1024):
        assert groups % PACKING[format](groups, inputs, outputs, positions) == 0


@pytest.mark.parametrize(("format", "fastest"), [("litert", [4, 4, 4]), ("onnx", [1, 8, 8])])
def test_packing_is_the_measured_one(format, fastest):
    """The fastest of each column of the measurement that the rule is made from."""
    assert [PACKING[format](256, 2, 4, side**2) for side in (32, 8, 4)] == fastest


def test_no_more_groups_than_fill_16_channels():
    assert PACKING["litert"](32, 2, 6, 64) == 2  # 24 channels are not a multiple of 16
    assert PACKING["onnx"](8, 64, 64, 4) == 1  # wide enough
