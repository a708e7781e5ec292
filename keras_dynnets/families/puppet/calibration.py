"""Batch-norm statistics of a Puppet-CNN's levels, by a pass over images."""

from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from keras_dynnets.core.images import array_or_files

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.levelled_model import LevelledModel


def measured_statistics(model: "LevelledModel", images: np.ndarray, batch_size: int) -> np.ndarray:
    """Computes the batch-norm statistics of every branch on the images that are for it.

    Args:
        model: a model that knows the complexities of its training images.
        images: (n, height, width, channels) in [0, 255].
        batch_size: images a pass.

    Returns:
        Means and variances, weighted by the sizes of the batches, (branches, 2, channels of all
        norms). A branch without images keeps the statistics that it has.
    """
    images = array_or_files(images)
    puppet, levels = model.puppet, model.levels_of(images)
    statistics = ops.convert_to_numpy(puppet.statistics).copy()
    for index in range(len(puppet.branches)):
        rows = np.flatnonzero(levels == index)
        total, seen = 0.0, 0
        for start in range(0, len(rows), batch_size):
            part = ops.convert_to_tensor(images[rows[start : start + batch_size]].astype("float32"))
            _, found = puppet.run(part, puppet.rank(part), index)
            total = total + len(part) * ops.convert_to_numpy(found)
            seen += len(part)
        if seen:
            statistics[index] = total / seen
    return statistics
