"""The names by which cuts are given: of layers and of blocks."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

SHOWN = 6  # names that an error message lists
ALIKE = 0.6  # names that are less alike than this stay in running order


def places_of(cut: str, operations: Sequence[Any]) -> list[int]:
    """Finds what a cut names.

    A name is that of a layer, or of a block: the text before an underscore that the names of two
    layers or more share, such as "stage1" for "stage1_conv" and "stage1_pool", and
    "conv2_block3" for "conv2_block3_1_conv" and "conv2_block3_out". The layers of a block follow
    each other; between them may stand layers that nobody named. Layers that Keras has named, such
    as "conv2d" and "conv2d_5", are no block; "conv1_1" and "conv1_2" are the block "conv1".

    Args:
        cut: the name.
        operations: what each call of a network runs, in running order.

    Returns:
        The indices of the calls of that layer, or that of the last call of the block; an empty
        list if there is neither.
    """
    names = [operation.name for operation in operations]
    exact = [i for i, name in enumerate(names) if name == cut]
    if exact:
        return exact
    block = [i for i, name in enumerate(names) if name.startswith(f"{cut}_")]
    number = re.compile(rf"{re.escape(str(cut))}_\d+")
    numbered = any(number.fullmatch(names[i]) and _is_unnamed(operations[i]) for i in block)
    if numbered or len({names[i] for i in block}) < 2:
        return []
    between = (operations[i] for i in range(block[0], block[-1]) if i not in block)
    return block[-1:] if all(map(_is_unnamed, between)) else []


def nearest_first(cut: str, names: Sequence[str]) -> str:
    """Lists names for an error message, those that are most like `cut` first.

    Args:
        cut: the name that was not found.
        names: the names that would be right.
    """
    if not names:
        return "none"
    alike = {name: difflib.SequenceMatcher(None, str(cut), name).ratio() for name in names}
    ordered = sorted(names, key=lambda name: -max(alike[name], ALIKE))
    shown = ", ".join(map(repr, ordered[:SHOWN]))
    more = len(ordered) - SHOWN
    return f"{shown} and {more} more, see cnsn.cut_points" if more > 0 else shown


def _is_unnamed(operation: Any) -> bool:
    """Says whether Keras named an operation, after its class: "re_lu_3" for a `ReLU`."""
    name = re.sub(r"_\d+$", "", operation.name).replace("_", "")
    return name == type(operation).__name__.lower()
