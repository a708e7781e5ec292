"""Augmented batches, on any backend and repeatable after a resume."""

import keras
import numpy as np

from keras_dynnets.core.grouping import grouped_rows
from keras_dynnets.training.data.image_files import ImageFiles

WORKERS = 4  # threads that read images from files


class Batches(keras.utils.PyDataset):
    """Shuffled, flipped and translated batches of images in memory.

    Every epoch's order and changes follow from (seed, epoch) alone, so that a
    training that was stopped goes on as if it had not been.

    Args:
        split: `data.Split` of uint8 images, in memory or in files.
        batch_size: images a batch; the last, smaller one is left out.
        flip: whether to mirror half of the images.
        translate: pixels by which images move at most. What comes in is the image mirrored at its border,
            so that a training sees no black edges that test images do not have.
        resized_crop: whether to take a random part of every image, resized, instead of moving it; of images in files.
        seed: of everything random.
        steps: batches an epoch at most; None for all.
        groups: a number for each image; every batch then holds images of one number, and what is left of a group
            after its last whole batch is left out.
    """

    def __init__(
        self,
        split,
        batch_size,
        flip=True,
        translate=4,
        seed=0,
        steps=None,
        groups=None,
        resized_crop=False,
    ):
        in_files = isinstance(split.images, ImageFiles)
        if resized_crop and not in_files:
            raise ValueError(
                "resized_crop wants images in files, whose parts are larger than what a network sees; give translate"
            )
        super().__init__(workers=WORKERS if in_files else 1)
        self.split = split
        self.batch_size = batch_size
        self.flip = flip
        self.translate = translate
        self.resized_crop = resized_crop
        self.seed = seed
        self.steps = steps
        self.groups = np.zeros(len(split), int) if groups is None else groups
        self.start_epoch(0)

    def start_epoch(self, epoch):
        self.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch))
        self.batches = grouped_rows(self.groups, self.batch_size, rng, whole=True)

    def on_epoch_end(self):
        self.start_epoch(self.epoch + 1)

    def __len__(self):
        return min(len(self.batches), self.steps or len(self.batches))

    def __getitem__(self, index):
        rows = self.batches[index]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        if self.resized_crop:
            images = self.split.images.cropped(rows, rng)
        else:
            images = self._translated(self.split.images[rows], rng)
        if self.flip:
            mirrored = rng.random(len(images)) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        return images.astype("float32"), self.split.labels[rows]

    def _translated(self, images, rng):
        t = self.translate
        batch, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (t, t), (t, t), (0, 0)), "reflect")
        top, left = rng.integers(0, 2 * t + 1, (2, batch, 1))
        rows, columns = top + np.arange(height), left + np.arange(width)
        return padded[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


class OneHot(keras.utils.PyDataset):
    """Batches with one-hot labels, which label smoothing needs.

    Args:
        batches: the batches, with labels as integers.
        classes: number of classes.
    """

    def __init__(self, batches: Batches, classes: int):
        super().__init__()
        self.batches = batches
        self.classes = classes

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, labels = self.batches[index]
        return images, np.eye(self.classes, dtype="float32")[labels]

    def on_epoch_end(self):
        self.batches.on_epoch_end()
