"""The record of one set of published weights, and the index file that lists all records."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

VERSION = 1
# Names become parts of paths and addresses, so they must not be paths themselves.
_PLAIN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"

Plain = Annotated[str, StringConstraints(pattern=_PLAIN, max_length=200)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class WeightsRecord(BaseModel):
    """One set of published weights, as `zoo/index.json` lists it. A record cannot be changed.

    Attributes:
        entry: name of the model in the zoo.
        tag: name of the weights: `zoo.load(entry, weights=tag)` loads them.
        file: name of the `.weights.h5` file. It contains the first 8 digits of `sha256`.
        sha256: checksum of the file, 64 hexadecimal digits.
        bytes: size of the file.
        params: number of trainable values of the network.
        macs: multiply-accumulates (MACs) per image, at most.
        classes: names of the classes, in the order of the logits.
        input_shape: shape (height, width, channels) that the network is built with.
        options: further arguments that the network is built with.
        metrics: results on the full test set, as `keras-dynnets evaluate` prints them.
        validation: results on the training images that were set aside for validation.
        data_source: origin and licence of the training images.
        license: licence of the weights.
        evaluate: command that repeats `metrics`.
        train: command that repeats the training.
        recipe: all fields of the training recipe.
        seconds: training time in seconds.
        hardware: machine that the network was trained on.
        versions: versions of the libraries, by name.
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
    def _check(self) -> "WeightsRecord":
        """Refuses a file name that leaves its folder or that other weights could have."""
        ending = f"-{self.sha256[:8]}.weights.h5"
        plain = re.match(_PLAIN, self.file) and ".." not in self.file and len(self.file) <= 200
        if not plain or not self.file.endswith(ending):
            raise ValueError(
                f"file {self.file!r} is refused: it must be a plain name of letters, digits, '_', "
                f"'-' and '.', without a folder, that ends with {ending!r} (the first digits of "
                "its sha256)"
            )
        if not isinstance(self.metrics.get("accuracy"), (int, float)):
            raise ValueError(f"metrics must hold the accuracy, a number, but are {self.metrics}")
        return self

    @property
    def macs_mean(self) -> float:
        """MACs per image, averaged over the test set.

        This is less than `macs` if the network skips some of its work.
        """
        return self.metrics.get("macs_mean", self.macs)


def parse_index(text: str | bytes, source: str | Path) -> list[WeightsRecord]:
    """Reads the records from the text of an index.

    Args:
        text: content of an `index.json`.
        source: where the text comes from; error messages name it.

    Returns:
        The records in the order of the index.

    Raises:
        ValueError: the text is not an index, has a later version, or holds an invalid record.
    """
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{source} is not an index of weights: it is not JSON ({error})"
        ) from error
    version = index.get("version") if isinstance(index, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(
            f"{source} is not an index of weights: an index has the form "
            f'{{"version": {VERSION}, "weights": [...]}}'
        )
    if version > VERSION:
        raise ValueError(
            f"{source} is an index of version {version}, and this keras_dynnets reads version "
            f"{VERSION}: update keras_dynnets (pip install -U keras-dynnets), or use a mirror with "
            f"an index of version {VERSION}"
        )
    if not isinstance(index.get("weights"), list):
        raise ValueError(f'{source} lists no weights: it needs "weights": [...]')
    listed = [_record(number, fields, source) for number, fields in enumerate(index["weights"], 1)]
    names = [(r.entry, r.tag) for r in listed]
    if twice := sorted({f"{entry} {tag}" for entry, tag in names if names.count((entry, tag)) > 1}):
        raise ValueError(f"{source} lists {', '.join(twice)} more than once")
    return listed


def _record(number: int, fields: object, source: str | Path) -> WeightsRecord:
    """Validates one record; `number` counts from 1 and stands in the error."""
    try:
        return WeightsRecord.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"{source}, record {number}: {wrong}") from error


def read_index(folder: Path) -> list[WeightsRecord]:
    """Reads the records of a folder of published weights.

    Args:
        folder: the folder with `index.json`.

    Returns:
        The records in the order of the index; an empty list if there is no `index.json`.

    Raises:
        ValueError: the index is invalid, see `parse_index`.
    """
    path = folder / "index.json"
    return parse_index(path.read_bytes(), path) if path.is_file() else []


def format_index(records: Iterable[WeightsRecord]) -> str:
    """Returns the text of an index with these records; `parse_index` reads it."""
    index = {"version": VERSION, "weights": [r.model_dump() for r in records]}
    return json.dumps(index, indent=1) + "\n"
