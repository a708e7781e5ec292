"""How often a network takes images of one class for images of another."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dynnets.measure.picture import write_picture

NAMED = 40  # classes up to which a picture has their names
WRITTEN = 20  # classes up to which the numbers are written into its squares


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts for every pair of classes how many images of the one are taken for the other.

    Args:
        labels: class of each image, integers (n,).
        predicted: class that a network gives each image, integers (n,).
        classes: number of classes.

    Returns:
        Numbers of images, int64 (classes, classes): a row for each class that the images have, a
        column for each class that they are taken for.

    Raises:
        ValueError: a label or a prediction is not one of the classes.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    pairs = np.stack([labels, predicted]).astype("int64")
    if pairs.size and (pairs.min() < 0 or pairs.max() >= classes):
        raise ValueError(
            f"labels and predictions lie between 0 and {classes - 1} for {classes} classes, not "
            f"between {pairs.min()} and {pairs.max()}; give the classes of this network"
        )
    return np.bincount(pairs[0] * classes + pairs[1], minlength=classes**2).reshape(
        classes, classes
    )


def figures_by_class(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Gives the figures of each class.

    Args:
        matrix: what `confusion_matrix` gives.
        classes: names of the classes.

    Returns:
        By the name of each class: `images`, the number of its images; `recall`, the share of them
        that is found; `precision`, the share of what is taken for the class that is of it. Recall
        is None for a class without images, precision for one that nothing is taken for.
    """
    right = np.diag(matrix)
    found, taken = matrix.sum(1), matrix.sum(0)
    return {
        name: {
            "images": int(found[i]),
            "recall": float(right[i] / found[i]) if found[i] else None,
            "precision": float(right[i] / taken[i]) if taken[i] else None,
        }
        for i, name in enumerate(classes)
    }


def confusion_picture(
    matrix: np.ndarray | Sequence[Sequence[int]], classes: Sequence[str], path: str | os.PathLike
) -> Path:
    """Draws a confusion matrix, each row in shares of the images of its class.

    Args:
        matrix: what `confusion_matrix` gives.
        classes: names of the classes.
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.

    Returns:
        The path.

    Raises:
        ValueError: `path` does not end in ".png".

    Example:
        >>> confusion_picture(np.array([[9, 1], [0, 8]]), ["ants", "bees"], "confusion.png")
    """
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    side = float(np.clip(2 + 0.5 * len(classes), 4, 16))

    def draw(figure: Any) -> None:
        figure.set_size_inches(side + 1, side)
        axes = figure.subplots()
        shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(shown, label="share of the images of the class")
        axes.set(xlabel="taken for", ylabel="class")
        if len(classes) <= NAMED:
            axes.set_xticks(range(len(classes)), classes, rotation=90 if len(classes) > 4 else 0)
            axes.set_yticks(range(len(classes)), classes)
        if len(classes) <= WRITTEN:
            for (row, column), number in np.ndenumerate(matrix):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(number), ha="center", va="center", color=color)

    return write_picture(draw, path)
