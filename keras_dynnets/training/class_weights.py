"""How much the images of each class count in the loss of a training."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np


def weights_of_classes(
    wanted: Literal["balanced"] | Mapping[str, float] | None,
    labels: np.ndarray,
    classes: Sequence[str],
) -> dict[int, float] | None:
    """Gives the weight of each class in the loss, as `keras.Model.fit` takes it.

    Args:
        wanted: "balanced", by which the images of every class together count alike and the mean
            weight of an image is 1; or weights by the names of classes, 1 where none is given; or
            None.
        labels: classes of the training images, (n,).
        classes: names of the classes.

    Returns:
        The weights by the number of the class; None where all count alike.

    Raises:
        ValueError: a weight is for a class that there is not.

    Example:
        >>> weights_of_classes("balanced", np.array([0, 0, 0, 1]), ["ants", "bees"])
        {0: 0.6666666666666666, 1: 2.0}
    """
    if wanted is None:
        return None
    if wanted == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        present = np.count_nonzero(counts)
        return {i: len(labels) / (present * max(1, int(n))) for i, n in enumerate(counts)}
    if unknown := [name for name in wanted if name not in classes]:
        raise ValueError(
            f"class_weights names {', '.join(unknown)}, and the classes are {', '.join(classes)}; "
            "give weights by these names, or class_weights: balanced"
        )
    return {i: float(wanted.get(name, 1.0)) for i, name in enumerate(classes)}
