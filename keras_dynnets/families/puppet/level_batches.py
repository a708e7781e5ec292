"""Batches of images of one level."""

import keras
import numpy as np

from keras_dynnets.core.grouping import grouped_rows


class LevelBatches(keras.utils.PyDataset):
    """Arrays in batches of one level each, in another order every epoch.

    Args:
        arrays: images, then labels and weights if there are any; as for `fit`.
        levels: of each image. batch_size: images a batch; what is left of a level makes a smaller one.
        shuffle, seed: of images and batches.
    """

    def __init__(self, arrays, levels, batch_size=32, shuffle=True, seed=0):
        super().__init__()
        self.arrays, self.levels, self.batch_size = arrays, levels, batch_size
        self.rng = np.random.default_rng(seed) if shuffle else None
        self.on_epoch_end()

    def on_epoch_end(self):
        self.batches = grouped_rows(self.levels, self.batch_size, self.rng)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        rows = self.batches[index]
        return tuple(array[rows] for array in self.arrays)


def by_level(dataset, model, batch_size):
    """A `tf.data` data set of single (image, label) in batches of one level each.

    Args:
        dataset: unbatched, images first, or images alone.
        model: the `PuppetCNN`, its complexities ranked (see `PuppetCNN.rank`).
        batch_size: images a batch; what is left of a level makes a smaller one.

    Returns:
        The `tf.data.Dataset`.

    Raises:
        ValueError: a model that has not ranked any images, or a data set of batches.
    """
    import tensorflow as tf

    if not model.ranked:
        raise ValueError(
            f"{model.name} does not know the complexities of your training images: model.rank(some_thousand_images)"
        )
    first = tf.nest.flatten(dataset.element_spec)[0]
    if len(first.shape) != 3:
        raise ValueError(
            f"by_level takes a data set of single images, (height, width, channels), not {first.shape}: dataset.unbatch()"
        )

    def level(image, *rest):
        images = tf.cast(image, tf.float32)[None]
        return tf.cast(model.puppet.place(model.puppet.rank(images))[0], tf.int64)

    return dataset.group_by_window(
        level, lambda _, images: images.batch(batch_size), window_size=batch_size
    )
