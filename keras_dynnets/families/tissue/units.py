"""Basic units as tuples of widths, such as (2, 4, 2)."""

import numbers
from collections.abc import Sequence
from typing import Any

Unit = tuple[int, ...]


def checked_unit(unit: Any) -> Unit:
    """Gives a unit as a tuple of ints.

    Args:
        unit: the widths (c_in, c_hidden, ..., c_out).

    Raises:
        ValueError: it is not 3 to 5 integers of 1 or more.
    """
    try:
        widths = tuple(int(width) for width in unit)
        right = 3 <= len(widths) <= 5 and min(widths) >= 1 and widths == tuple(unit)
    except (TypeError, ValueError):
        widths, right = (), False
    if not right:
        raise ValueError(
            "a unit is 3 to 5 widths (c_in, c_hidden, ..., c_out) of 1 or more, such as (2, 4, "
            f"2), not {unit!r}"
        )
    return widths


def for_each_layer(name: str, value: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Gives an integer for each layer of a unit.

    Args:
        name: name of the argument, for the message.
        value: one integer for all layers, or one for each.
        depth: number of layers.

    Raises:
        ValueError: the value is neither.
    """
    values: tuple = tuple(value) if isinstance(value, (list, tuple)) else (value,) * depth
    if len(values) != depth or not all(_is_positive(v) for v in values):
        raise ValueError(
            f"{name} is one integer or {depth}, one for each layer of the unit, of 1 or more, not "
            f"{value!r}"
        )
    return tuple(int(v) for v in values)


def _is_positive(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


def with_channels(shape: Sequence[int | None], axis: int, channels: int) -> tuple:
    """Gives a shape with another number of channels.

    Args:
        shape: shape of a tensor.
        axis: axis of the channels.
        channels: the new number.
    """
    changed = list(shape)
    changed[axis] = channels
    return tuple(changed)
