"""Loads a network by its name, with its weights."""

import inspect
import logging
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keras_dynnets.core.arguments import plain
from keras_dynnets.core.class_names import name_classes
from keras_dynnets.core.registry import Entry, find
from keras_dynnets.zoo.model_files import load_model_file, model_file
from keras_dynnets.zoo.registry import is_file
from keras_dynnets.zoo.run_folders import RunRecord, read_run, run_folder, run_of_weights
from keras_dynnets.zoo.weights.published import records, verified_file, where_weights_come_from
from keras_dynnets.zoo.weights.records import WeightsRecord

log = logging.getLogger("keras_dynnets")


class UntrainedModelWarning(UserWarning):
    """Warns that a model has random weights, because none are published for it."""


def load(
    name: str | os.PathLike,
    weights: str | os.PathLike | None = "default",
    num_classes: int | None = None,
    input_shape: Collection[int] | None = None,
    **options: Any,
) -> Any:
    """Loads a network of the zoo, the one that was trained in a run folder, or a saved model.

    The network takes images in [0, 255], float32 (batch, height, width, channels), normalises them
    itself and gives logits (batch, num_classes).

    A network with published weights or of a run knows the names of its classes: its attribute
    `class_names` has them in the order of the logits, and files that are exported from it hold
    them. With `num_classes` the classes are your own, so that it has no names.

    Args:
        name: one of `list_models()`, or the path of a run folder, such as "runs/photos", or of a
            `.keras` file. These know the weights, the number of classes, the size of the images
            and the options.
        weights: the tag of published weights, such as "cifar10"; the path of a `.weights.h5` file;
            None for random weights; or "default" for the first published tag. Where nothing is
            published, "default" gives random weights and an `UntrainedModelWarning`. The weights
            file of a run brings along what its run folder knows. For a run folder as `name`,
            "default" stands for the weights of the run.
        num_classes: number of classes. If published weights or those of a run folder have another
            number, the model gets a new head with random weights, and the log names the new
            tensors.
        input_shape: shape of an image, (height, width, channels).
        **options: options of the network, which its builder takes. For a network that consists of
            several, also the options that ask for one of them; of a weights file only the values
            of that network are then read.

    Returns:
        A `keras.Model` that is not compiled.

    Raises:
        ValueError: the name, the tag or a size is wrong; the message lists what there is. Or the
            weights file is damaged, belongs to another network or has values that are not finite.
        TypeError: the network does not have one of the options.
        FileNotFoundError: there is no weights file or no finished run at this path.
        RuntimeError: a published file is missing or damaged and could not be downloaded.
        OSError: the cache folder cannot be written.

    Example:
        >>> model = zoo.load("resnet20", weights="cifar10")
        >>> model.predict(images).shape
        (8, 10)
        >>> zoo.load("runs/photos").class_names
        ('cat', 'dog')
    """
    if file := model_file(name):
        _check_saved(file, weights, num_classes, input_shape)
        model = load_model_file(file)
        if not options:
            return model
        return _part_of_file(file, model, options)
    folder = run_folder(name)
    run = read_run(folder) if folder else None
    entry = find(run.entry if run else str(name))
    part = {key: plain(options.pop(key)) for key in entry.part_options if key in options}
    if weights is not None and is_file(weights):
        file = _weights_file(weights)
        known = run or _run_of(entry, file)
        model = _built(entry, known, num_classes, input_shape, options)
        _fill(model, file, part)
    elif weights is not None and (known := _known(entry, run, str(weights))):
        model = _pretrained(entry, known, num_classes, input_shape, options, part)
    else:
        known = None
        model = _built(entry, run, num_classes, input_shape, options)
        if weights is not None:
            message = (
                f"no weights of {entry.name} are published yet, so this model is untrained "
                "(weights=None loads it without this warning)"
            )
            warnings.warn(message, UntrainedModelWarning, stacklevel=2)
    model = model.detach(**part) if part else model
    if known is not None and num_classes is None:
        run = known if isinstance(known, RunRecord) else None
        return name_classes(model, known.classes, run and _described(run, model, options))
    return model


def check_weights(name: str | os.PathLike, weights: str | os.PathLike | None) -> None:
    """Refuses weights that `load` could not find, without loading anything.

    Args:
        name: see `load`.
        weights: see `load`.

    Raises:
        ValueError: the name is unknown, no weights with this tag are published, or the file is not
            a `.weights.h5` file.
        FileNotFoundError: there is no weights file or no finished run at this path.
    """
    if file := model_file(name):
        _check_saved(file, weights)
        return
    folder = run_folder(name)
    run = read_run(folder) if folder else None
    entry = find(run.entry if run else str(name))
    if weights is None:
        return
    if is_file(weights):
        _weights_file(weights)
    else:
        known = _known(entry, run, str(weights))
        if isinstance(known, RunRecord):
            known.checked_weights()


def _check_saved(
    file: Path,
    weights: str | os.PathLike | None,
    num_classes: int | None = None,
    input_shape: Collection[int] | None = None,
) -> None:
    """Refuses weights and sizes for a saved model, which has its own."""
    if weights != "default" or num_classes is not None or input_shape is not None:
        raise ValueError(
            f"{file} is a whole model, so it takes no weights, num_classes or input_shape; leave "
            "them out, or load a network of the zoo with them"
        )


def _part_of_file(file: Path, model: Any, options: Mapping[str, Any]) -> Any:
    """Gives the part of a saved model that options ask for, or refuses other options."""
    from keras_dynnets.core.dynamic import interface

    detach = interface(model).detach
    kinds = inspect.signature(detach).parameters.values()
    known = [argument.name for argument in kinds if argument.kind != argument.VAR_KEYWORD]
    if unknown := [name for name in options if name not in known]:
        there = f"only {', '.join(known)}" if known else "no options"
        raise TypeError(
            f"{file} is a whole model and takes {there}, not {', '.join(unknown)}; leave them "
            "out, or load a network of the zoo with them"
        )
    return detach(**plain(options))


def _known(entry: Entry, run: RunRecord | None, weights: str) -> RunRecord | WeightsRecord | None:
    """Gives what is known of the weights that are not a file; None if nothing is published."""
    if run is None:
        return _record(entry, weights)
    if weights != "default":
        raise ValueError(
            f"{run.folder} holds weights of its own, so it takes no weights {weights!r}; leave "
            f"them out, or load {entry.name} with them"
        )
    return run


def _run_of(entry: Entry, file: Path) -> RunRecord | None:
    """Gives the run that a weights file is of, if the run is of this entry."""
    run = run_of_weights(file)
    return run if run is not None and run.entry == entry.name else None


def _built(
    entry: Entry,
    run: RunRecord | None,
    num_classes: int | None,
    input_shape: Collection[int] | None,
    options: Mapping[str, Any],
) -> Any:
    """Builds a network with random weights; a run gives what the user does not."""
    if run is not None:
        num_classes = len(run.classes) if num_classes is None else num_classes
        input_shape = run.input_shape if input_shape is None else input_shape
        options = {**run.options, **options}
    return entry.build(num_classes, input_shape, **options)


def _described(run: RunRecord, model: Any, options: Mapping[str, Any]) -> str:
    """Gives the description of a run, with the sizes and options that its model has here."""
    shape, options = tuple(model.input_shape[1:]), {**run.options, **plain(options)}
    return run.model_copy(update={"input_shape": shape, "options": options}).short_description()


def _fill(model: Any, file: Path, part: Mapping[str, Any]) -> None:
    from keras_dynnets.zoo.weights.fill import fill_weights

    fill_weights(model, file, part)


def _weights_file(path: str | os.PathLike) -> Path:
    """Gives the path of a weights file, or refuses one that is missing or of another kind."""
    path = Path(path).expanduser()
    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            "zoo.load takes the weights of a model, a .weights.h5 file as model.save_weights "
            f"writes it, not {path}; a .keras file is a whole model: zoo.load(path)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    return path


def _record(entry: Entry, weights: str) -> WeightsRecord | None:
    """Gives the record of a tag; None for "default" if nothing is published for the entry."""
    published = records(entry.name)
    chosen = [r for r in published if weights in ("default", r.tag)]
    if chosen or weights == "default":
        return chosen[0] if chosen else None
    there = ", ".join(repr(r.tag) for r in published) or "none yet"
    raise ValueError(
        f"{entry.name} has no weights {weights!r}; published: {there}; or give a .weights.h5 file, "
        f"or None; {where_weights_come_from()}"
    )


def _pretrained(
    entry: Entry,
    record: WeightsRecord | RunRecord,
    num_classes: int | None,
    input_shape: Collection[int] | None,
    options: Mapping[str, Any],
    part: Mapping[str, Any],
) -> Any:
    """Builds a network with published weights, or with those of a run.

    If the user asks for other sizes or options than the record has, weights are copied wherever
    path and shape agree.
    """
    from keras_dynnets.core.dynamic import interface

    path = record.checked_weights() if isinstance(record, RunRecord) else verified_file(record)
    pretrained = entry.build(len(record.classes), record.input_shape, **record.options)
    _fill(pretrained, path, part)
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
    """Copies the weights of one model whose path and shape another model has too.

    Returns:
        The paths of the other model's weights that were not copied.
    """
    values = {v.path: v for v in source.weights}
    new = []
    for variable in target.weights:
        if variable.path in values and values[variable.path].shape == variable.shape:
            variable.assign(values[variable.path])
        else:
            new.append(variable.path)
    return new
