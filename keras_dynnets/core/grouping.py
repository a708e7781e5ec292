"""Batches of images that belong to one group."""

import numpy as np


def grouped_rows(
    groups: np.ndarray,
    batch_size: int,
    rng: np.random.Generator | None = None,
    whole: bool = False,
) -> list[np.ndarray]:
    """Forms batches that hold images of one group each.

    Args:
        groups: the group of each image, (n,).
        batch_size: images a batch.
        rng: a generator to shuffle images and batches with; None keeps the order of the images.
        whole: whether to leave out what remains of a group after its last whole batch.

    Returns:
        A list of arrays of indices of images.
    """
    groups = np.asarray(groups)
    batches = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if rng is not None:
            rng.shuffle(rows)
        end = len(rows) - len(rows) % batch_size if whole else len(rows)
        batches += [rows[start : start + batch_size] for start in range(0, end, batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches
