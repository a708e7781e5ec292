"""Arguments of public functions, as plain Python values."""

import operator
from typing import Any


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Gives a whole number as an `int`.

    Args:
        name: name of the argument, for the message.
        value: what the user gave: an `int` or an integer of numpy.
        least: the smallest number that is accepted.

    Raises:
        ValueError: the value is no whole number, or too small; `True` is no number.

    Example:
        >>> whole_number("batch_size", np.int64(8))
        8
    """
    try:
        number = None if is_truth(value) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be an integer of {least} or more, not {value!r}")
    return number


def is_truth(value: Any) -> bool:
    """Says whether a value is True or False, of Python or of numpy, and so no number."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def plain(value: Any) -> Any:
    """Gives numbers and arrays of numpy as Python's own, inside lists and dicts too.

    What such a value becomes part of can then be written as JSON.

    Args:
        value: any value; one that holds nothing of numpy comes back unchanged.

    Example:
        >>> plain({"width": np.float64(0.5), "levels": np.array([0, 3])})
        {'width': 0.5, 'levels': [0, 3]}
    """
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    if type(value).__module__ != "numpy" or not hasattr(value, "tolist"):
        return value
    short = value.dtype.kind == "f" and value.ndim == 0  # 0.7 in float32 is 0.7, not 0.699999988
    return float(str(value)) if short else value.tolist()
