"""Names of weights to verified files, and files to the values of a model."""

import functools
import logging
from pathlib import Path

from keras_dynnets.zoo import settings
from keras_dynnets.zoo.fetch import FetchError, cached_file, cached_index, fault, sha256  # noqa: F401
from keras_dynnets.zoo.records import read_index

log = logging.getLogger("keras_dynnets")
SHELF = Path(__file__).parents[2] / "zoo"  # a checkout brings the shelf along


class NoShelfError(RuntimeError):
    """There is no shelf to take weights from: no checkout and no mirror."""


def records(entry=None):
    """The published sets of weights, all of them or an entry's; the first of an entry is its default.

    Raises:
        NoShelfError: there is neither a mirror nor a checkout.
        FetchError: the mirror's index cannot be had.
        ValueError: the index is none, or of a later version.
    """
    if address := settings.mirror():
        listed = _mirrored(address, settings.offline())
    elif (SHELF / "index.json").is_file():
        listed = read_index(SHELF)
    else:
        raise NoShelfError(
            "there is no shelf of published weights here: set KERAS_DYNNETS_MIRROR (or call zoo.set_mirror) to the "
            "address or the path of a copy of the repository's folder zoo/, or work in a checkout; weights=None needs none"
        )
    return [r for r in listed if entry in (None, r.entry)]


@functools.lru_cache(maxsize=8)
def _mirrored(address, offline):
    """The records of a mirror, asked for once in a program; `offline` only tells the two cases apart."""
    listed, missed = cached_index(address)
    if missed and not offline:
        log.warning("the index of weights is the copy from an earlier time: %s", missed)
    return listed


def verified_file(record):
    """The file of a record, once its length and hash have been checked.

    Raises:
        RuntimeError: it is missing or is not the one that was published, and no right one can be had.
        OSError: the cache cannot be written.
    """
    if address := settings.mirror():
        return cached_file(record, f"{address}/{record.entry}/{record.file}")
    path = SHELF / record.entry / record.file
    if wrong := fault(path, record):
        raise FetchError(f"{path} {wrong}; zoo/index.json lists it: restore it, with git checkout for example")
    return path


def fill(model, path, part=None):
    """Loads a file's values into a model.

    Keras refuses links out of the file and values stored elsewhere; nothing in such a file is ever executed.

    Args:
        model: the whole model that the file is of.
        path: a `.weights.h5` file.
        part: arguments of `model.detach`: only what the part so detached has is read.

    Raises:
        ValueError: the file is damaged, holds the weights of another network, or values that are not finite.
    """
    network = model.detach(**part) if part else model
    outputs = network.output
    classes = (outputs.get("logits", outputs.get("base")) if isinstance(outputs, dict) else outputs).shape[-1]
    try:
        if part:
            _load_part(model, network, path)
        else:
            model.load_weights(path)
    except Exception as error:  # a file made to do harm can fail anywhere in Keras and h5py
        raise ValueError(
            f"{path} does not hold the weights of {model.name} with {classes} classes; "
            f"give the num_classes and options that it was saved with ({type(error).__name__}: {error})"
        ) from error
    if wrong := _not_finite(network):
        raise ValueError(f"{path} is refused: it holds values that are not finite, in {', '.join(wrong)}")


def _not_finite(model):
    import keras

    is_float = keras.backend.is_float_dtype
    floats = [v for v in model.variables if is_float(v.dtype)]
    names = [v.path for v in floats if not keras.ops.all(keras.ops.isfinite(v))]
    return [*names[:3], *(["..."] if len(names) > 3 else [])]


def _load_part(model, part, path):
    """Loads from a file of `model`'s weights those that `part`, a network on its layers, has, and reads no others."""
    needed = {id(v) for v in part.variables}
    left_out = [layer for layer in model._flatten_layers() if not needed.intersection(map(id, layer.variables))]
    try:
        for layer in left_out:
            layer.load_own_variables = lambda store: None
        model.load_weights(path)
    finally:
        for layer in left_out:
            del layer.load_own_variables
