"""The names of classes that a user gives, in any of the forms that they come in."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_dynnets.core.arguments import plain

log = logging.getLogger("keras_dynnets")

FORMS = "a list of names, {index: name}, {name: index}, or the path of a text file with one a line"


def class_labels(given: Any, classes: int) -> tuple[str, ...]:
    """Gives names of classes in the order of the logits.

    Two classes may have the same name, such as the two cranes of ImageNet; the log then names it.

    Args:
        given: the names: a list, tuple, array or other ordered collection in the order of the
            logits, of texts or whole numbers, which become texts; a dict from index to name, or
            from name to index as `class_indices` of Keras's image generators; or the path of a
            text file in UTF-8 with one name a line.
        classes: number of logits.

    Raises:
        ValueError: the names have no order, are no texts, are empty, are of another number than
            the logits, or the path is not of such a file.

    Example:
        >>> class_labels({1: "dog", 0: "cat"}, 2)
        ('cat', 'dog')
    """
    if isinstance(given, (str, os.PathLike)):
        names = _from_file(given)
    elif isinstance(given, Mapping):
        names = _by_index(given, classes)
    elif isinstance(given, (set, frozenset)):
        raise ValueError("labels are a set, which has no order; give a list in that of the logits")
    elif isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray)):
        names = [str(name) if type(name) is int else name for name in plain(list(given))]
    else:
        raise ValueError(f"labels are {FORMS}, not {given!r}")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"labels are texts, and {name!r} is none; {FORMS}")
        if not name.strip():
            raise ValueError("a label is empty; give each class a name")
    if len(names) != classes:
        raise ValueError(
            f"{len(names)} labels do not name {classes} classes; give one label for each logit"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        log.warning("several classes have the same label: %s", ", ".join(twice))
    return tuple(str(name) for name in names)


def _from_file(path: str | os.PathLike) -> list[str]:
    """Reads a text file with one name a line; blank lines at the end do not count."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"labels={str(path)!r} is no file; labels are {FORMS}")
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8; labels are {FORMS}") from error
    return [line.strip() for line in text.rstrip().split("\n")]


def _by_index(given: Mapping[Any, Any], classes: int) -> list[Any]:
    """Orders the names of a dict by their indices."""
    pairs = plain(list(given.items()))
    if all(isinstance(key, str) and type(value) is int for key, value in pairs):
        pairs = [(value, key) for key, value in pairs]
    elif all(isinstance(key, str) and key.isdecimal() for key, _ in pairs):  # keys of JSON
        pairs = [(int(key), value) for key, value in pairs]
    by_index = dict(pairs)
    wrong = any(type(index) is not int for index in by_index)
    if wrong or len(by_index) < len(pairs) or sorted(by_index) != list(range(len(pairs))):
        raise ValueError(
            f"a dict of labels has each index from 0 to {classes - 1} once, as {{index: name}} or "
            f"{{name: index}}; this one has {', '.join(str(index) for index, _ in pairs[:8])}"
        )
    return [by_index[index] for index in range(len(pairs))]
