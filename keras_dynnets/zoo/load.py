"""From a name to a model with its weights."""

import logging
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keras_dynnets.core.registry import Entry, find
from keras_dynnets.zoo.registry import is_file
from keras_dynnets.zoo.weights.published import records, verified_file, where_weights_come_from
from keras_dynnets.zoo.weights.records import WeightsRecord

log = logging.getLogger("keras_dynnets")


class UntrainedModelWarning(UserWarning):
    """A model comes with random weights because none are published for it."""


def load(
    name: str,
    weights: str | os.PathLike | None = "default",
    num_classes: int | None = None,
    input_shape: Collection[int] | None = None,
    **options: Any,
) -> Any:
    """Loads a network of the zoo, logits out.

    Args:
        name: one of `list_models()`.
        weights: a published tag such as "cifar10"; the path of a `.weights.h5` file; None for
            random weights; "default" for the first published tag, or, with an
            `UntrainedModelWarning`, random weights where nothing is published.
        num_classes: size of the logits. Where published weights have another number, the model
            gets a new head on pretrained layers, and the log names the new tensors.
        input_shape: (height, width, channels). Images are in [0, 255]; the model normalises them.
        **options: options of the network, such as `target_rate` of a DMNN; for a network that
            detaches, also those that ask for one of its parts (`sub_model`, `width`), of which
            alone the weights are then read.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: an unknown name, tag or size, with a message that lists what there is; or a
            file that is damaged, belongs to another network or has values that are not finite.
        TypeError: an option that the network does not have.
        FileNotFoundError: a path that does not exist.
        RuntimeError: a published file that is missing or damaged and cannot be had.
        OSError: a cache folder that cannot be written.

    Example:
        >>> model = zoo.load("resnet20", weights="cifar10")
        >>> model.predict(images).shape
        (8, 10)
    """
    entry = find(name)
    part = {key: options.pop(key) for key in entry.part_options if key in options}
    model = _load(entry, weights, num_classes, input_shape, options, part)
    return model.detach(**part) if part else model


def _load(
    entry: Entry,
    weights: str | os.PathLike | None,
    num_classes: int | None,
    input_shape: Collection[int] | None,
    options: Mapping[str, Any],
    part: Mapping[str, Any],
) -> Any:
    """Loads the whole model, with its weights or at least those of the part."""
    if weights is None:
        return entry.build(num_classes, input_shape, **options)
    if is_file(weights):
        return _load_file(entry, Path(weights), num_classes, input_shape, options, part)
    name, record = entry.name, _record(entry, weights)
    if record is None:
        model = entry.build(num_classes, input_shape, **options)
        message = (
            f"no weights of {name} are published yet, so this model is untrained "
            "(weights=None loads it without this warning)"
        )
        warnings.warn(message, UntrainedModelWarning, stacklevel=3)
        return model
    return _load_record(entry, record, num_classes, input_shape, options, part)


def _record(entry: Entry, weights: str) -> WeightsRecord | None:
    """Gives the record of published weights; None for "default" where nothing is published."""
    published = records(entry.name)
    chosen = [r for r in published if weights in ("default", r.tag)]
    if chosen or weights == "default":
        return chosen[0] if chosen else None
    there = ", ".join(repr(r.tag) for r in published) or "none yet"
    raise ValueError(
        f"{entry.name} has no weights {weights!r}; published: {there}; or give a .weights.h5 file, "
        f"or None; {where_weights_come_from()}"
    )


def check_weights(name: str, weights: str | os.PathLike | None) -> None:
    """Refuses weights that `load` could not find, without loading anything.

    Raises:
        ValueError: a tag that is not published.
        FileNotFoundError: a path that does not exist.
    """
    entry = find(name)
    if weights is None:
        return
    if is_file(weights):
        if not Path(weights).is_file():
            raise FileNotFoundError(f"no weights file {weights}")
        return
    _record(entry, str(weights))


def _load_file(entry, path, num_classes, input_shape, options, part):
    from keras_dynnets.zoo.weights.fill import fill

    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            "zoo.load takes the weights of a model, a .weights.h5 file as model.save_weights "
            f"writes it, not {path}; a .keras file is a whole model: keras.saving.load_model(path)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    model = entry.build(num_classes, input_shape, **options)
    fill(model, path, part)
    return model


def _load_record(entry, record: WeightsRecord, num_classes, input_shape, options, part):
    from keras_dynnets.core.dynamic import interface
    from keras_dynnets.zoo.weights.fill import fill

    path = verified_file(record)
    pretrained = entry.build(len(record.classes), record.input_shape, **record.options)
    fill(pretrained, path, part)
    interface(pretrained).take_metrics(record.validation)
    num_classes = len(record.classes) if num_classes is None else num_classes
    input_shape = record.input_shape if input_shape is None else input_shape
    same_size = num_classes == len(record.classes)
    if same_size and tuple(input_shape) == tuple(record.input_shape) and not options:
        return pretrained
    model = entry.build(num_classes, input_shape, **{**record.options, **options})
    new = _copy_weights(pretrained, model)
    level = logging.WARNING if new else logging.INFO
    log.log(level, "%s: newly initialised: %s", entry.name, ", ".join(new) or "nothing")
    return model


def _copy_weights(source: Any, target: Any) -> list[str]:
    """Copies weights of equal path and shape; gives the paths of those that were not copied."""
    values = {v.path: v for v in source.weights}
    new = []
    for variable in target.weights:
        if variable.path in values and values[variable.path].shape == variable.shape:
            variable.assign(values[variable.path])
        else:
            new.append(variable.path)
    return new
