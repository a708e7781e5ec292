"""The names of the classes that a model tells apart, which travel with it into exported files."""

from collections.abc import Sequence
from typing import Any

ATTRIBUTE = "class_names"


def name_classes(model: Any, names: Sequence[str] | None) -> Any:
    """Gives a model the names of its classes, as its attribute `class_names`.

    Args:
        model: a Keras model.
        names: the names in the order of the logits; None to leave the model as it is.

    Returns:
        The model.
    """
    if names is not None:
        setattr(model, ATTRIBUTE, tuple(str(name) for name in names))
    return model


def names_of_classes(model: Any) -> tuple[str, ...] | None:
    """Gives the names of the classes of a model, where they are known.

    A model that was trained after it was loaded may tell other classes apart than its weights did
    before, so that its names no longer count.

    Args:
        model: a Keras model.

    Returns:
        The names in the order of the logits; None if they are not known.
    """
    names = getattr(model, ATTRIBUTE, None)
    if names is None or _trained_since(model):
        return None
    return tuple(str(name) for name in names)


def _trained_since(model: Any) -> bool:
    """Says whether `fit` or `train_on_batch` has changed a model; loading compiles none."""
    steps = getattr(getattr(model, "optimizer", None), "iterations", None)
    return steps is not None and int(steps) > 0
