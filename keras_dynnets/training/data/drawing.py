"""Draws images for validation and test from those for training."""

from collections.abc import Sequence

import numpy as np

TEST = 6  # the test set is this part of the images: a sixth
VALIDATION = 10  # the validation set is this part of the others at most


def drawn_at_random(
    n: int, validation: int, rng: np.random.Generator, test: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws from all images alike.

    Args:
        n: number of images.
        validation: number of validation images, at most a tenth of the images are drawn.
        rng: the generator.
        test: whether test images are drawn, a sixth of all.

    Returns:
        The positions of the images for training, validation and test.
    """
    rows, held_out = np.arange(n), np.arange(0)
    if test:
        order, cut = rng.permutation(n), n // TEST
        rows, held_out = order[cut:], order[:cut]
    cut = min(validation, len(rows) // VALIDATION)
    order = rng.permutation(len(rows))
    return rows[order[cut:]], rows[order[:cut]], held_out


def drawn_by_class(
    labels: np.ndarray,
    classes: Sequence[str],
    validation: int | None,
    rng: np.random.Generator,
    test: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws the same share of the images of each class, and at least one.

    The test set is a sixth of the images, the validation set a tenth of the others at most. Every
    class gives at least one image to each, first to the test set, as long as it keeps one to train
    on; for this the sets may become larger.

    Args:
        labels: class of each image, (n,).
        classes: names of the classes.
        validation: number of validation images; None to draw none.
        rng: the generator.
        test: whether test images are drawn.

    Returns:
        The positions of the images for training, validation and test.

    Raises:
        ValueError: a class has a single image, and test images are to be drawn.
    """
    order = rng.permutation(len(labels))  # the rows of a class in a random order
    held_out = np.arange(0)
    if test:
        counts = np.bincount(labels, minlength=len(classes))
        if (counts < 2).any():
            few = [name for name, count in zip(classes, counts, strict=True) if count < 2][:5]
            raise ValueError(
                f"one image is not enough to train on and to test on: {', '.join(few)}; give such "
                "a class more images, or put images for the test into a folder test/CLASS beside "
                "train/CLASS"
            )
        held_out, order = _taken(order, labels, len(labels) // TEST)
    chosen = np.arange(0)
    if validation is not None:
        chosen, order = _taken(order, labels, min(validation, len(order) // VALIDATION))
    return rng.permutation(order), chosen, held_out


def _taken(rows: np.ndarray, labels: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes rows of every class in proportion; gives them and the rows that remain."""
    own = labels[rows]
    counts = np.bincount(own, minlength=labels.max(initial=0) + 1)
    quota = counts * total / max(1, len(rows))
    wanted = np.floor(quota).astype(int)
    # What rounding down left over goes to the classes that lost most by it.
    for i in np.argsort(wanted - quota, kind="stable")[: total - wanted.sum()]:
        wanted[i] += 1
    wanted = np.minimum(np.maximum(wanted, 1), np.maximum(counts - 1, 0))
    place = np.zeros(len(rows), int)  # the position of each row within its class
    for label in np.flatnonzero(counts):
        place[own == label] = np.arange(counts[label])
    first = place < wanted[own]
    return rows[first], rows[~first]
