"""Lists the networks of the zoo and tells what is known about each."""

import fnmatch
import functools
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from keras_dynnets import families
from keras_dynnets.baselines import entries as _baselines  # noqa: F401  registers the plain networks
from keras_dynnets.core.registry import ENTRIES, find
from keras_dynnets.zoo.model_files import load_model_file, model_file, names_in_file
from keras_dynnets.zoo.run_folders import read_run, run_folder, run_of_weights
from keras_dynnets.zoo.weights.published import records

families.register_entries()


@dataclass(frozen=True)
class Info:
    """What `zoo.info` tells about a network.

    Attributes:
        name: name of the network.
        family: name of its family.
        input_shape: default shape of an image, (height, width, channels).
        num_classes: default number of classes.
        params: number of values that training learns.
        macs: multiply-accumulates (MACs) for one image, with all optional parts running.
        paper: arXiv number or DOI; empty for none.
        weights: tags of the published weights, which `load` takes.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    num_classes: int
    params: int
    macs: int
    paper: str
    weights: tuple[str, ...]


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Lists the names of the networks, with numbers in their names in numerical order.

    Args:
        pattern: pattern of names, in which `*` stands for any characters.
        pretrained: whether to list only networks with published weights.

    Returns:
        The names; an empty list if none matches.

    Example:
        >>> zoo.list_models("resnet2*")
        ['resnet20']
    """
    published = {r.entry for r in records()} if pretrained else ENTRIES
    names = [name for name in fnmatch.filter(ENTRIES, pattern) if name in published]
    return sorted(names, key=_natural)


def _natural(name: str) -> list[str | int]:
    """Splits a name into text and numbers, for sorting."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def info(name: str | os.PathLike) -> Info:
    """Tells what the zoo knows about a network, or about the one of a run or of a `.keras` file.

    Parameters and MACs are counted on the network, which is built for this.

    Args:
        name: one of `list_models()`, or the path of a run folder or of a `.keras` file.

    Raises:
        ValueError: there is no network of that name.
        FileNotFoundError: `name` is a path, and no run is there.

    Example:
        >>> zoo.info("resnet20").params
        272474
    """
    if file := model_file(name):
        from keras_dynnets.core.dynamic import interface

        model: Any = load_model_file(file)
        params, macs = _counts(model)
        _, *shape = model.input_shape
        classes = interface(model).logits_tensor.shape[-1]
        return Info(str(file), "", tuple(shape), classes, params, macs, "", ())
    if folder := run_folder(name):
        run = read_run(folder)
        entry, classes = find(run.entry), len(run.classes)
        params, macs = _counts(entry.build(classes, run.input_shape, **run.options))
        shape, paper = run.input_shape, entry.paper
        return Info(str(folder), entry.family, shape, classes, params, macs, paper, ())
    name = str(name)
    entry = find(name)
    params, macs = _counted(name)
    tags = tuple(r.tag for r in records(name))
    return Info(
        name, entry.family, entry.input_shape, entry.num_classes, params, macs, entry.paper, tags
    )


@functools.cache
def _counted(name: str) -> tuple[int, int]:
    return _counts(find(name).build())


def _counts(model: Any) -> tuple[int, int]:
    """Counts the values that training learns, and the MACs for one image."""
    from keras_dynnets.core import cost
    from keras_dynnets.core.dynamic import interface

    params = sum(math.prod(w.shape) for w in model.trainable_weights)
    return params, cost.model_macs(interface(model).cost_plan().network)


def labels(
    name: str | os.PathLike, weights: str | os.PathLike | None = "default"
) -> tuple[str, ...] | None:
    """Gives the names of the classes that published weights or a run were trained on.

    Args:
        name: one of `list_models()`, or the path of a run folder or of a `.keras` file.
        weights: a published tag, or "default" for the first one; or the weights file of a run.

    Returns:
        The names in the order of the logits; None for weights that are neither published nor of a
        run. A `.keras` file has the names that its model had when it was saved: models of the zoo
        and of runs have them until they are trained on, other models of Keras have none.

    Raises:
        ValueError: there is no network of that name.
        FileNotFoundError: `name` is a path, and no run or file is there.

    Example:
        >>> zoo.labels("resnet20", "cifar10")[3]
        'cat'
    """
    if file := model_file(name):
        return names_in_file(file)
    if folder := run_folder(name):
        return None if weights is None else read_run(folder).classes
    entry = find(str(name))
    if weights is None:
        return None
    if is_file(weights):
        run = run_of_weights(weights)
        return run.classes if run is not None and run.entry == entry.name else None
    published = [r for r in records(entry.name) if weights in ("default", r.tag)]
    return published[0].classes if published else None


def is_file(weights: str | os.PathLike) -> bool:
    """Says whether `weights` is the path of a file and not a tag.

    Args:
        weights: what the user gave as the weights of a network.
    """
    return isinstance(weights, os.PathLike) or str(weights).endswith((".h5", ".keras"))
