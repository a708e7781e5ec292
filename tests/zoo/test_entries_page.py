"""docs/entries.md lists every model; `test_entries.py` checks its figures beside each model."""

import re
from pathlib import Path

from keras_dynnets import zoo

ROWS = re.findall(
    r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$",
    (Path(__file__).parents[2] / "docs" / "entries.md").read_text(),
    re.MULTILINE,
)


def test_every_model_has_a_row():
    assert sorted(row[0] for row in ROWS) == sorted(zoo.list_models())
