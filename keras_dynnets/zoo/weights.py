"""Names of weights to verified files."""

import hashlib
import json
from pathlib import Path

from keras_dynnets.zoo.entry import WeightsRecord

SHELF = Path(__file__).parents[2] / "zoo"  # a checkout brings the shelf along


def records(entry=None, shelf=None):
    """The published sets of weights, all of them or an entry's; the first of an entry is its default."""
    index = (shelf or SHELF) / "index.json"
    if not index.is_file():
        return []
    listed = [WeightsRecord.model_validate(r) for r in json.loads(index.read_text())]
    return [r for r in listed if entry in (None, r.entry)]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified_file(record):
    """The file of a record, once its hash has been checked.

    Raises:
        RuntimeError: the file is missing or is not the one that was published.
    """
    path = SHELF / record.entry / record.file
    if not path.is_file():
        raise RuntimeError(f"{path} is missing; zoo/index.json lists it: restore it, with git checkout for example")
    if (found := sha256(path)) != record.sha256:
        raise RuntimeError(f"{path} is damaged: sha256 {found}, expected {record.sha256}; restore it")
    return path


def load_part(model, part, path):
    """Loads from a file of `model`'s weights those that `part`, a network on its layers, has; the others are not read.

    Raises:
        ValueError: the file is that of another model.
    """
    needed = {id(v) for v in part.variables}
    left_out = [layer for layer in model._flatten_layers() if not needed.intersection(map(id, layer.variables))]
    try:
        for layer in left_out:
            layer.load_own_variables = lambda store: None
        model.load_weights(path)
    finally:
        for layer in left_out:
            del layer.load_own_variables
