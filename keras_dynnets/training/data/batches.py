"""Augmented batches of labelled images, for any backend of Keras."""

from typing import Any

import keras
import numpy as np

from keras_dynnets.core.grouping import grouped_rows
from keras_dynnets.training.data.datasets import Split
from keras_dynnets.training.data.image_files import ImageFiles

WORKERS = 4  # threads that read image files


def images_a_step(split: Split) -> int:
    """Gives the number of images that validation and evaluation run at once by default.

    Args:
        split: images in memory, which are small, or in files.
    """
    return 64 if isinstance(split.images, ImageFiles) else 500


class Batches(keras.utils.PyDataset):
    """Shuffled batches of images, each flipped and moved at random.

    The order of an epoch and all random changes depend on the seed and the number of the epoch
    alone. A training that was stopped and resumed therefore sees the same batches as one that was
    not stopped.

    Each item is a tuple: images, float32 (batch, height, width, channels) in [0, 255], and their
    labels, int32 (batch,).

    Args:
        split: a `Split` with uint8 images, in memory or in files.
        batch_size: number of images in a batch. Images that do not fill a batch are left out.
        flip: whether to mirror half of the images.
        translate: largest number of pixels by which an image is moved in each direction. The area
            that becomes free is filled with the image mirrored at its border, so that no black
            borders appear, which test images do not have.
        seed: seed of everything that is random.
        steps: largest number of batches in an epoch; None for all.
        groups: a number for each image, (n,). Each batch then holds images with the same number.
        resized_crop: whether to take a random part of each image and resize it, instead of moving
            the image. Needs images in files.

    Raises:
        ValueError: `resized_crop` is set for images in memory.

    Example:
        >>> data = load_data("digits")
        >>> model.fit(Batches(data.train, batch_size=32), epochs=5)
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        flip: bool = True,
        translate: int = 4,
        seed: int = 0,
        steps: int | None = None,
        groups: np.ndarray | None = None,
        resized_crop: bool = False,
    ):
        in_files = isinstance(split.images, ImageFiles)
        if resized_crop and not in_files:
            raise ValueError(
                "resized_crop needs images in files, because images in memory have the size of the "
                "network's input already; set resized_crop to false and give translate"
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

    def start_epoch(self, epoch: int) -> None:
        """Shuffles the images for an epoch.

        Args:
            epoch: number of the epoch, from 0.
        """
        self.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch))
        self.batches = grouped_rows(self.groups, self.batch_size, rng, whole=True)

    def on_epoch_end(self) -> None:
        self.start_epoch(self.epoch + 1)

    def __len__(self) -> int:
        return min(len(self.batches), self.steps or len(self.batches))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.batches[index]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        images = self.split.images
        if self.resized_crop and isinstance(images, ImageFiles):
            batch = images.cropped(rows, rng)
        else:
            batch = self._translated(images[rows], rng)
        if self.flip:
            mirrored = rng.random(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored, :, ::-1]
        return batch.astype("float32"), self.split.labels[rows]

    def _translated(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        t = self.translate
        batch, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (t, t), (t, t), (0, 0)), "reflect")
        top, left = rng.integers(0, 2 * t + 1, (2, batch, 1))
        rows, columns = top + np.arange(height), left + np.arange(width)
        return padded[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


class InOrder(keras.utils.PyDataset):
    """All images of a split in their order and unchanged, for validation and evaluation.

    Each item is a tuple as that of `Batches`; the last batch may be smaller. Of images in files a
    few batches are in memory at a time, however many images there are.

    Args:
        split: a `Split`, in memory or in files.
        batch_size: number of images in a batch; None for 500 in memory and 64 in files.

    Example:
        >>> model.fit(Batches(data.train, 32), validation_data=InOrder(data.validation))
    """

    def __init__(self, split: Split, batch_size: int | None = None):
        in_files = isinstance(split.images, ImageFiles)
        super().__init__(workers=WORKERS if in_files else 1, max_queue_size=WORKERS)
        self.split = split
        self.batch_size = batch_size or images_a_step(split)

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.split.images[rows].astype("float32"), self.split.labels[rows]


class OneHot(keras.utils.PyDataset):
    """Gives batches with one-hot labels, which label smoothing needs.

    Each item is a tuple: the images of the batch, and their labels, float32 (batch, classes).

    Args:
        batches: the same batches with integer labels.
        classes: number of classes.
    """

    def __init__(self, batches: Batches | InOrder, classes: int):
        super().__init__(workers=batches.workers, max_queue_size=batches.max_queue_size)
        self.batches = batches
        self.classes = classes

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        images, labels = self.batches[index]
        return images, np.eye(self.classes, dtype="float32")[labels]

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()
