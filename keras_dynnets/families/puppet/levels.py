"""From the complexity of an image to its rank and its level."""

from typing import Any

import numpy as np
from keras import ops

RANKS = 65  # number of stored complexities of training images, at equal steps of their rank


def rank_of(complexity: Any, quantiles: Any) -> Any:
    """Computes the share of training images that are less complex.

    Args:
        complexity: (batch,) in [0, 1].
        quantiles: complexities of the training images at equal steps of their rank, (RANKS,).

    Returns:
        (batch,) in [0, 1]; NaN for a complexity that is NaN.
    """
    steps = ops.maximum(quantiles[1:] - quantiles[:-1], 1e-7)
    passed = ops.clip((complexity[:, None] - quantiles[:-1]) / steps, 0.0, 1.0)
    return ops.mean(passed, axis=1)


def level_of(ranks: Any, count: int) -> Any:
    """Gives the level of each rank.

    Args:
        ranks: (batch,) in [0, 1].
        count: number of levels, each with about the same number of training images.

    Returns:
        (batch,) int32 in [0, count - 1].
    """
    return ops.cast(ops.clip(ops.floor(ranks * count), 0, count - 1), "int32")


def bounds_between(levels: list[int], count: int, quantiles: np.ndarray) -> np.ndarray:
    """Computes the complexities that separate some of the levels.

    Args:
        levels: increasing levels, some of 0 to `count - 1`. Images of a level that is not among
            them belong to the nearest one that is.
        count: number of all levels.
        quantiles: see `rank_of`.

    Returns:
        Complexities, one fewer than `levels`.
    """
    ranks = [(a + b + 1) / 2 / count for a, b in zip(levels, levels[1:], strict=False)]
    return np.interp(ranks, np.linspace(0, 1, len(quantiles)), quantiles)


def index_between(complexity: Any, bounds: Any) -> Any:
    """Gives the number of bounds that are below each complexity.

    Args:
        complexity: (batch,) in [0, 1].
        bounds: what `bounds_between` gives, for n levels.

    Returns:
        The index of the level among the n, (batch,) int32.
    """
    return ops.sum(ops.cast(complexity[:, None] > bounds, "int32"), axis=1)
