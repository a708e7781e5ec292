"""Batches in which all images have the same level."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_dynnets.core.grouping import grouped_rows

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.model import PuppetCNN


class LevelBatches(keras.utils.PyDataset):
    """Gives the rows of arrays in batches of one level each, in a new order every epoch.

    Args:
        arrays: images, labels and, if there are any, sample weights, as for `fit`.
        levels: level of each image, (n,).
        batch_size: images a batch; what remains of a level makes a smaller batch.
        shuffle: whether images and batches are shuffled.
        seed: seed of the order.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        levels: np.ndarray,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        self.arrays, self.levels, self.batch_size = arrays, levels, batch_size
        self.rng = np.random.default_rng(seed) if shuffle else None
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self.batches = grouped_rows(self.levels, self.batch_size, self.rng)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.batches[index]
        return tuple(array[rows] for array in self.arrays)


def arrays_of_one_length(*arrays: Any) -> list[np.ndarray]:
    """Gives the images, labels and sample weights that a user passes to `fit` as arrays.

    Args:
        *arrays: arrays or None.

    Returns:
        Those that are not None.

    Raises:
        ValueError: the arrays have different lengths.
    """
    found = [np.asarray(array) for array in arrays if array is not None]
    if len({len(array) for array in found}) > 1:
        lengths = ", ".join(str(len(array)) for array in found)
        raise ValueError(
            f"images, labels and sample weights are as many, not {lengths}; give one label and, "
            "if you weight them, one weight for each image"
        )
    return found


def by_level(dataset: Any, model: "PuppetCNN", batch_size: int) -> Any:
    """Batches a `tf.data` data set so that all images of a batch have the same level.

    Args:
        dataset: an unbatched `tf.data.Dataset` whose elements are images, (height, width,
            channels) in [0, 255], or tuples that begin with an image.
        model: a `PuppetCNN` that knows the complexities of its training images (see
            `PuppetCNN.rank`).
        batch_size: images a batch; what remains of a level makes a smaller batch.

    Returns:
        A `tf.data.Dataset` of batches.

    Raises:
        ValueError: the model has not ranked any images, or the data set holds batches.

    Example:
        >>> model.rank(some_thousand_images)
        >>> model.fit(by_level(dataset, model, batch_size=64), epochs=5)
    """
    import tensorflow as tf

    if not model.ranked:
        raise ValueError(
            f"{model.name} does not know the complexities of your training images; call "
            "model.rank(some_thousand_images) first"
        )
    first = tf.nest.flatten(dataset.element_spec)[0]
    if len(first.shape) != 3:
        raise ValueError(
            "by_level takes a data set of single images, (height, width, channels), not "
            f"{first.shape}; undo the batches with dataset.unbatch()"
        )

    model.puppet.notice.given = True

    def level(image: Any, *rest: Any) -> Any:
        images = tf.cast(image, tf.float32)[None]
        return tf.cast(model.puppet.branch_of(model.puppet.rank(images))[0], tf.int64)

    return dataset.group_by_window(
        level, lambda _, images: images.batch(batch_size), window_size=batch_size
    )
