"""What the zoo holds: names of its networks and what is known of each."""

import fnmatch
import functools
import math
import os
import re
from dataclasses import dataclass

from keras_dynnets import families
from keras_dynnets.baselines import entries as _baselines  # noqa: F401  registers the plain networks
from keras_dynnets.core.registry import ENTRIES, find
from keras_dynnets.zoo.weights.published import records

families.register_entries()


@dataclass(frozen=True)
class Info:
    """What `zoo.info` tells of a network.

    Attributes:
        name: its name.
        family: the family that it belongs to.
        input_shape: default shape of an image, (height, width, channels).
        num_classes: default number of classes.
        params: values that training learns.
        macs: MACs for one image with all optional parts on.
        paper: arXiv number or DOI.
        weights: tags that `zoo.load(name, weights=tag)` takes.
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
    """Lists the names of the networks in natural order.

    Args:
        pattern: shell-style pattern, such as "dmnn*".
        pretrained: whether to list only networks with published weights.

    Example:
        >>> zoo.list_models("resnet2*")
        ['resnet20']
    """
    published = {r.entry for r in records()} if pretrained else ENTRIES
    names = [name for name in fnmatch.filter(ENTRIES, pattern) if name in published]
    return sorted(names, key=_natural)


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def info(name: str) -> Info:
    """Tells what the zoo knows of a network; params and MACs are counted on the network itself.

    Raises:
        ValueError: there is no network of that name.
    """
    entry = find(name)
    params, macs = _counted(name)
    tags = tuple(r.tag for r in records(name))
    return Info(
        name, entry.family, entry.input_shape, entry.num_classes, params, macs, entry.paper, tags
    )


@functools.cache
def _counted(name: str) -> tuple[int, int]:
    from keras_dynnets.core import cost
    from keras_dynnets.core.dynamic import interface

    model = find(name).build()
    params = sum(math.prod(w.shape) for w in model.trainable_weights)
    return params, cost.model_macs(interface(model).cost_plan().network)


def labels(name: str, weights: str | os.PathLike | None = "default") -> tuple[str, ...] | None:
    """Gives the names of the classes that published weights tell apart; None for other weights."""
    entry = find(name)
    if weights is None or is_file(weights):
        return None
    published = [r for r in records(entry.name) if weights in ("default", r.tag)]
    return published[0].classes if published else None


def is_file(weights: str | os.PathLike) -> bool:
    """Says whether `weights` is the path of a file and not a tag."""
    return isinstance(weights, os.PathLike) or str(weights).endswith((".h5", ".keras"))
