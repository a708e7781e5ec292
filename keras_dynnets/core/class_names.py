"""The names of the classes that a model tells apart, which travel with it into saved files.

Names that come with weights count as long as the weights are the same: a model that was trained
since, or got other weights, may tell other classes apart.
"""

import logging
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

log = logging.getLogger("keras_dynnets")

ATTRIBUTE = "class_names"
_WHEN_NAMED = "_classes_when_named"  # the names, and the checksum of the weights they came with
_RUN = "_run_description"  # of the run that the weights are of, as JSON


def name_classes(model: Any, names: Sequence[str] | None, run: str | None = None) -> Any:
    """Gives a model the names of the classes that its weights tell apart.

    They are its attribute `class_names`.

    Args:
        model: a Keras model.
        names: the names in the order of the logits; None to leave the model as it is.
        run: the description of the run that the weights are of, as JSON; None if there is none.

    Returns:
        The model. A plain functional model comes back as a `NamedModel` with the same layers,
        whose files keep the names.
    """
    return model if names is None else _named(model, names, checksum(model), run)


def names_of_classes(model: Any) -> tuple[str, ...] | None:
    """Gives the names of the classes of a model, where they are known.

    Args:
        model: a Keras model.

    Returns:
        The names in the order of the logits; None if they are not known, or came with other
        weights than the model has now. Names that the user has set count in any case.
    """
    if (names := stated_names(model)) is None:
        return None
    before = _checksum_of(model)
    return names if before is None or before == checksum(model) else None


def stated_names(model: Any) -> tuple[str, ...] | None:
    """Gives the attribute `class_names` of a model, whatever weights it has now.

    Args:
        model: a Keras model, or what is exported of it.

    Returns:
        The names; None where there are none, or where a model of the user's has a method of this
        name.

    Raises:
        ValueError: the attribute is no collection in the order of the logits.
    """
    names = getattr(model, ATTRIBUTE, None)
    if names is None or callable(names):
        return None
    if isinstance(names, (str, bytes, Mapping, set, frozenset)) or not isinstance(names, Iterable):
        raise ValueError(
            f"class_names of {model.name} is a list of names in the order of the logits, not "
            f"{names!r}"
        )
    return tuple(map(str, names)) or None


def names_in_config(model: Any) -> dict[str, Any]:
    """Gives what the config of a model says of its classes; nothing where they are not known.

    Args:
        model: a Keras model, whose `get_config` adds this to its own.
    """
    if (names := names_of_classes(model)) is None:
        if stated_names(model):
            log.warning(
                "%s has other weights than those that the names of its classes came with, so they "
                "may have changed and are not saved; if they are the same, say so before: "
                "model.class_names = list(model.class_names)",
                model.name,
            )
        return {}
    found = _checksum_of(model)
    run = None if found is None else getattr(model, _RUN, None)
    return {ATTRIBUTE: {"names": list(names), "checksum": found, "run": run}}


def names_from_config(model: Any, saved: Mapping[str, Any] | None) -> Any:
    """Gives a model the names that `names_in_config` put into its config.

    Args:
        model: the model that was made from the config. It gets its weights later, and the names
            count if these are those that the names came with.
        saved: the value of "class_names" in the config; None if there is none.

    Returns:
        The model.
    """
    if saved is None:
        return model
    return _named(model, saved["names"], saved["checksum"], saved.get("run"))


def checksum(model: Any) -> int:
    """Gives a checksum of everything that a model has learned.

    Args:
        model: a Keras model.
    """
    from keras import ops

    from keras_dynnets.core.keras_private import learned_variables

    found = 0
    for variable in learned_variables(model):
        found = zlib.crc32(ops.convert_to_numpy(variable).tobytes(), found)
    return found


def keep_names(model: Any, change: Callable[[], Any]) -> None:
    """Changes how the weights of a model are held, upon which it keeps the names of its classes.

    Args:
        model: a Keras model.
        change: what changes the weights without training them, such as `quantize`.
    """
    names = names_of_classes(model)
    before = None if names is None else _checksum_of(model)
    change()
    if names is not None and before is not None:
        _named(model, names, checksum(model), getattr(model, _RUN, None))


def _named(model: Any, names: Sequence[str], found: int | None, run: str | None) -> Any:
    from keras_dynnets.core.keras_private import set_untracked
    from keras_dynnets.core.named_model import NamedModel

    model = NamedModel.around(model)
    setattr(model, ATTRIBUTE, tuple(map(str, names)))
    set_untracked(model, _WHEN_NAMED, (getattr(model, ATTRIBUTE), found))
    setattr(model, _RUN, run)
    return model


def _checksum_of(model: Any) -> int | None:
    """Gives the checksum of the weights that names came with; None for names of the user's.

    The attribute is the user's as soon as it was set again, to the same names too.
    """
    before, found = getattr(model, _WHEN_NAMED, (None, None))
    return found if before is getattr(model, ATTRIBUTE, None) else None
