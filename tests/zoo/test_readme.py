"""The README's figures are those of the models."""

import re
from pathlib import Path

import pytest

from keras_dynnets import zoo

ROWS = re.findall(
    r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$",
    (Path(__file__).parents[2] / "README.md").read_text(),
    re.MULTILINE,
)


def test_every_model_has_a_row():
    assert sorted(row[0] for row in ROWS) == sorted(zoo.list_models())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_readme(row):
    name, params, macs, side = row
    info = zoo.info(name)
    assert (f"{info.params:,}", f"{info.macs:,}", str(info.input_shape[0])) == (params, macs, side)
