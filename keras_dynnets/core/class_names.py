"""The names of the classes that a model tells apart, which travel with it into saved files.

Names that come with weights count as long as the weights are the same: a model that was trained
since, or got other weights, may tell other classes apart.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

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
    if (names := getattr(model, ATTRIBUTE, None)) is None:
        return None
    names = tuple(map(str, names))
    before = _checksum_of(model, names)
    return names if before is None or before == checksum(model) else None


def names_in_config(model: Any) -> dict[str, Any]:
    """Gives what the config of a model says of its classes; nothing where they are not known.

    Args:
        model: a Keras model, whose `get_config` adds this to its own.
    """
    if (names := names_of_classes(model)) is None:
        return {}
    found = _checksum_of(model, names)
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


def _named(model: Any, names: Sequence[str], found: int | None, run: str | None) -> Any:
    from keras_dynnets.core.named_model import NamedModel

    names = tuple(map(str, names))
    model = NamedModel.around(model)
    setattr(model, ATTRIBUTE, names)
    setattr(model, _WHEN_NAMED, (names, found))
    setattr(model, _RUN, run)
    return model


def _checksum_of(model: Any, names: tuple[str, ...]) -> int | None:
    """Gives the checksum of the weights that names came with; None for names of the user's."""
    before, found = getattr(model, _WHEN_NAMED, (None, None))
    return found if before == names else None
