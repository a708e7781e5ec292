"""From the complexity of an image to its level."""

from typing import Any

import numpy as np
from keras import ops

RANKS = 65  # complexities of training images that are stored, at equal steps of their rank


def rank_of(complexity: Any, quantiles: Any) -> Any:
    """Gives the share of training images that are less complex.

    Args:
        complexity: (batch,) in [0, 1].
        quantiles: complexities of the training images at equal steps of their rank, (RANKS,).

    Returns:
        (batch,) in [0, 1].
    """
    steps = ops.maximum(quantiles[1:] - quantiles[:-1], 1e-7)
    passed = ops.clip((complexity[:, None] - quantiles[:-1]) / steps, 0.0, 1.0)
    return ops.mean(passed, axis=1)


def level_of(ranks: Any, count: int) -> Any:
    """Gives the level of each rank, (batch,) int32: `count` levels with as many images each."""
    return ops.cast(ops.clip(ops.floor(ranks * count), 0, count - 1), "int32")


def bounds_between(levels: list[int], count: int, quantiles: np.ndarray) -> np.ndarray:
    """Gives the complexities above which the next of some levels takes over.

    Args:
        levels: increasing levels out of `count`. Images of a level that is not among them go to
            the nearest that is.
        count: number of all levels.
        quantiles: as for `rank_of`.

    Returns:
        Complexities, one fewer than `levels`.
    """
    ranks = [(a + b + 1) / 2 / count for a, b in zip(levels, levels[1:], strict=False)]
    return np.interp(ranks, np.linspace(0, 1, len(quantiles)), quantiles)
