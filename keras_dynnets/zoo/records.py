"""What the zoo knows of a set of weights, and the index that lists them all."""

import json
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PositiveInt, StringConstraints, ValidationError, model_validator

VERSION = 1
_PLAIN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"  # becomes a part of paths and addresses, so it can be no path itself

Plain = Annotated[str, StringConstraints(pattern=_PLAIN, max_length=200)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class WeightsRecord(BaseModel):
    """One set of weights on the shelf, as `zoo/index.json` lists it.

    Attributes:
        entry, tag: what `zoo.load(entry, weights=tag)` asks for; the entry has the paper.
        file, sha256, bytes: in the folder of the entry; the name carries the hash's first 8 digits.
        params, macs: of the network with these weights; MACs an image at most.
        classes: their names, in the order of the logits.
        input_shape, options: what the network is built with.
        metrics: on the full test set, as `evaluate` prints them. validation: on the images set aside, likewise.
        data_source: whose images they learned from. license: of the weights.
        evaluate, train: the exact commands.
        recipe: everything that decided the result.
        seconds, hardware, versions: of the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: Plain
    tag: Plain
    file: str
    sha256: Sha256
    bytes: PositiveInt
    params: PositiveInt
    macs: PositiveInt
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    options: dict
    metrics: dict
    validation: dict = {}
    data_source: str
    license: str
    evaluate: str
    train: str
    recipe: dict
    seconds: float
    hardware: str
    versions: dict

    @model_validator(mode="after")
    def _check(self):
        """Refuses above all a file name that leaves its folder, or that another set of weights could have."""
        ending = f"-{self.sha256[:8]}.weights.h5"
        plain = re.match(_PLAIN, self.file) and ".." not in self.file and len(self.file) <= 200
        if not plain or not self.file.endswith(ending):
            raise ValueError(
                f"file {self.file!r} is refused: it must be a plain name of letters, digits, '_', '-' and '.', with no "
                f"folder, that ends with {ending!r} (the first digits of its sha256)"
            )
        if not isinstance(self.metrics.get("accuracy"), (int, float)):
            raise ValueError(f"metrics need the accuracy, a number; they are {self.metrics}")
        return self

    @property
    def macs_mean(self):
        """MACs an image on average over the test set: fewer than `macs` where the network skips some."""
        return self.metrics.get("macs_mean", self.macs)


def parse_index(text, source):
    """The records of an index.

    Args:
        text: what `index.json` holds.
        source: where it comes from, for the errors.

    Raises:
        ValueError: it is no index, one of a later version, or lists something that no record can be.
    """
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not an index of weights: it is not JSON ({error})") from error
    version = index.get("version") if isinstance(index, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f'{source} is not an index of weights: that is {{"version": {VERSION}, "weights": [...]}}')
    if version > VERSION:
        raise ValueError(
            f"{source} is an index of version {version}, and this keras_dynnets reads version {VERSION}: update it "
            "(pip install -U keras-dynnets), or use a shelf of its own version"
        )
    if not isinstance(index.get("weights"), list):
        raise ValueError(f'{source} lists no weights: it needs "weights": [...]')
    listed = [_record(number, fields, source) for number, fields in enumerate(index["weights"], 1)]
    names = [(r.entry, r.tag) for r in listed]
    if twice := sorted({f"{entry} {tag}" for entry, tag in names if names.count((entry, tag)) > 1}):
        raise ValueError(f"{source} lists {', '.join(twice)} more than once")
    return listed


def _record(number, fields, source):
    try:
        return WeightsRecord.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{source}, record {number}: {wrong}") from error


def read_index(folder):
    """The records of the `index.json` of a shelf's folder; none where there is no index yet."""
    path = folder / "index.json"
    return parse_index(path.read_bytes(), path) if path.is_file() else []


def format_index(records):
    """The text of an index, which `parse_index` takes back."""
    return json.dumps({"version": VERSION, "weights": [r.model_dump() for r in records]}, indent=1) + "\n"
