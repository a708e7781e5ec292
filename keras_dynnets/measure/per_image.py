"""What images cost a network: their gates, and the multiply-accumulates (MACs) that follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_dynnets.core.dynamic import interface
from keras_dynnets.core.images import checked_images
from keras_dynnets.measure.counting import count

CHUNK = 2000  # images in memory at a time


@dataclass(frozen=True, eq=False)
class Measurement:
    """What n images cost a network.

    Attributes:
        gates: which sub-blocks ran, 1 or 0, uint8 (n, blocks, sub_blocks); (n, 0, 0) for
            a network without gates.
        logits: float (n, classes).
        macs: MACs of every image, int64 (n,).
        worst_macs: MACs of an image with all paths on.
    """

    gates: np.ndarray
    logits: np.ndarray
    macs: np.ndarray
    worst_macs: int

    @property
    def executed_share(self):
        """Share of the sub-blocks that ran on every image, (n,) in [0, 1]; 1 where there are none to skip."""
        return self.gates.mean((1, 2)) if self.gates.size else np.ones(len(self.gates))

    @property
    def macs_share(self):
        """MACs of every image in parts of the worst case, (n,) in (0, 1]."""
        return self.macs / self.worst_macs

    @property
    def mean_macs(self):
        """MACs an image on average."""
        return float(self.macs.mean())

    @property
    def mean_macs_share(self):
        """MACs an image on average, in parts of the worst case."""
        return float(self.macs_share.mean())

    @property
    def mean_execution_rate(self):
        """Share of sub-blocks that ran, over all images."""
        return float(self.executed_share.mean())

    def execution_rate_by_class(self, labels):
        """How often every sub-block ran on the images of every class.

        Args:
            labels: classes of the images, integers (n,).

        Returns:
            Rates in [0, 1], (classes, blocks * sub_blocks), the sub-blocks of a block side
            by side. A class without images has a row of NaN.

        Raises:
            ValueError: labels of another shape, not integer, or not a class.
        """
        labels = self._checked(labels)
        gates = self.gates.reshape(len(labels), self.gates.shape[1] * self.gates.shape[2])
        rates = np.full((self.logits.shape[1], gates.shape[1]), np.nan)
        for klass in np.unique(labels):
            rates[klass] = gates[labels == klass].mean(0)
        return rates

    def easiest_and_hardest(self, labels, klass, k):
        """The images of a class that take the fewest and the most MACs.

        Args:
            labels: classes of the images, integers (n,).
            klass: the class.
            k: how many of each; all of them where the class has fewer.

        Returns:
            Two arrays of positions in `images`: the easiest, fewest MACs first, and the
            hardest, most MACs first. Of equals the earlier image comes first.

        Raises:
            ValueError: wrong labels, a class without images, or `k` below 1.
        """
        rows = np.flatnonzero(self._checked(labels) == klass)
        if not len(rows):
            raise ValueError(
                f"none of the {len(self.macs)} images is of class {klass}; choose one that the labels hold"
            )
        if k < 1:
            raise ValueError(f"k is a number of images, 1 or more, not {k}")
        macs = self.macs[rows]
        return rows[np.argsort(macs, kind="stable")[:k]], rows[np.argsort(-macs, kind="stable")[:k]]

    def _checked(self, labels):
        labels, count = np.asarray(labels), len(self.macs)
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels are the classes of the {count} measured images, integers of shape ({count},), not "
                f"{labels.dtype} of shape {labels.shape}; one-hot labels: labels.argmax(-1)"
            )
        if labels.min() < 0 or labels.max() >= self.logits.shape[1]:
            raise ValueError(
                f"labels lie between 0 and {self.logits.shape[1] - 1} for this network, not between {labels.min()} and "
                f"{labels.max()}: they are not of the classes that it was made for"
            )
        return labels


def measure(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int = 32,
    progress: Callable[[int], Any] = lambda done: None,
) -> Measurement:
    """Runs a network on images and works out what each of them cost.

    The MACs are those of the parts that an image needs. They depend neither on the batch nor on
    the form of execution; time does.

    Args:
        model: any model that `count` takes. Where it skips nothing, every image costs the same.
        images: (n, height, width, channels) of the model's size, uint8 or float in [0, 255]; an
            array, or images in files, of which `CHUNK` at a time are in memory.
        batch_size: images a step.
        progress: called with the number of images that are done.

    Returns:
        A `Measurement`.

    Raises:
        ValueError: images of another shape, type or range, or a model that `count` refuses.
    """
    worst = count(model).macs
    shape = tuple(model.input_shape[1:])
    if getattr(images, "ndim", None) != 4 or tuple(images.shape[1:]) != shape or not len(images):
        images = checked_images(images, shape)
    gates, logits, macs = [], [], []
    for start in range(0, len(images), CHUNK):
        chunk = checked_images(images[start : start + CHUNK], shape)
        found = interface(model).run_images(chunk, batch_size)
        none = np.zeros((len(chunk), 0, 0), "uint8")
        gates.append(none if found.gates is None else found.gates)
        logits.append(found.logits)
        macs.append(np.full(len(chunk), worst) if found.macs is None else found.macs)
        progress(start + len(chunk))
    return Measurement(*(np.concatenate(part) for part in (gates, logits, macs)), worst)
