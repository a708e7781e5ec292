"""What each image costs a network: its gates and its multiply-accumulates (MACs)."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import cost
from keras_dynnets.core.arguments import whole_number
from keras_dynnets.core.dynamic import PerImage, interface
from keras_dynnets.core.images import checked_images
from keras_dynnets.measure.counting import count

CHUNK = 2000  # images of an array that are checked and run at a time
WORKERS = 4  # threads that read image files


@dataclass(frozen=True, eq=False)
class Measurement:
    """What n images cost a network.

    Attributes:
        gates: 1 for each sub-block that ran and 0 for the others, uint8 (n, blocks, sub_blocks);
            (n, 0, 0) for a network without gates.
        logits: logits of each image, float (n, classes).
        macs: MACs of each image, int64 (n,). `measure` always counts them; in an evaluation they
            are None for a network whose cost is not known.
        worst_macs: MACs of an image with all optional parts on; None where `macs` are.
    """

    gates: np.ndarray
    logits: np.ndarray
    macs: Any
    worst_macs: Any

    @property
    def executed_share(self) -> np.ndarray:
        """Share of the sub-blocks that ran on each image, (n,) in [0, 1]; 1 without gates."""
        return self.gates.mean((1, 2)) if self.gates.size else np.ones(len(self.gates))

    @property
    def macs_share(self) -> np.ndarray:
        """MACs of each image as a share of the worst case, (n,) in (0, 1]."""
        return self.macs / self.worst_macs

    @property
    def mean_macs(self) -> float:
        """Mean MACs of an image."""
        return float(self.macs.mean())

    @property
    def mean_macs_share(self) -> float:
        """Mean MACs of an image as a share of the worst case, in (0, 1]."""
        return float(self.macs_share.mean())

    @property
    def mean_execution_rate(self) -> float:
        """Share of the sub-blocks that ran, over all images, in [0, 1]."""
        return float(self.executed_share.mean())

    def execution_rate_by_class(self, labels: np.ndarray) -> np.ndarray:
        """Gives how often each sub-block ran on the images of each class.

        Args:
            labels: class of each image, integers (n,).

        Returns:
            Rates in [0, 1], (classes, blocks * sub_blocks), the sub-blocks of a block next to
            each other. A class without images has a row of NaN.

        Raises:
            ValueError: the labels have another shape, are no integers, or are no classes.

        Example:
            >>> profile.measure(model, images).execution_rate_by_class(labels).shape
            (10, 18)
        """
        labels = self._checked(labels)
        gates = self.gates.reshape(len(labels), self.gates.shape[1] * self.gates.shape[2])
        rates = np.full((self.logits.shape[1], gates.shape[1]), np.nan)
        for klass in np.unique(labels):
            rates[klass] = gates[labels == klass].mean(0)
        return rates

    def easiest_and_hardest(
        self, labels: np.ndarray, klass: int, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the images of a class that take the fewest and the most MACs.

        Args:
            labels: class of each image, integers (n,).
            klass: the class.
            k: number of images of each kind; a class with fewer gives all of its images.

        Returns:
            Two arrays of indices of images: the easiest, fewest MACs first, and the hardest, most
            MACs first. Images with equal MACs are in their original order.

        Raises:
            ValueError: the labels are wrong, the class has no images, or `k` is below 1.

        Example:
            >>> easiest, hardest = profile.measure(model, images).easiest_and_hardest(labels, 3, 5)
        """
        rows = np.flatnonzero(self._checked(labels) == klass)
        if not len(rows):
            raise ValueError(
                f"none of the {len(self.macs)} images is of class {klass}; choose one that the "
                "labels hold"
            )
        if k < 1:
            raise ValueError(f"k is a number of images, 1 or more, not {k}")
        macs = self.macs[rows]
        return rows[np.argsort(macs, kind="stable")[:k]], rows[np.argsort(-macs, kind="stable")[:k]]

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        """Gives the labels as an array; refuses those that are not classes of the images."""
        labels, count, classes = np.asarray(labels), len(self.macs), self.logits.shape[1]
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels are the classes of the {count} measured images, integers of shape "
                f"({count},), not {labels.dtype} of shape {labels.shape}; one-hot labels: "
                "labels.argmax(-1)"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"labels lie between 0 and {classes - 1} for this network, not between "
                f"{labels.min()} and {labels.max()}: they are not of the classes that it was made "
                "for"
            )
        return labels


def measure(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int = 32,
    progress: Callable[[int], Any] = lambda done: None,
    called: str = "measure",
) -> Measurement:
    """Runs a network on images and counts what each of them costs.

    The MACs are those of the parts that run for an image. They depend neither on the batch size
    nor on the form of execution.

    Args:
        model: keras.Model, any model that `count` takes.
        images: (n, height, width, channels) of the size that the model takes, uint8 or float in
            [0, 255]; an array, or images in files, of which two batches are in memory at a time.
        batch_size: number of images that run at once.
        progress: called with the number of images that are done.
        called: name of the function that an error about the images names.

    Returns:
        A `Measurement`.

    Raises:
        ValueError: the images have another shape, type or range, `batch_size` is no integer of 1
            or more, or `count` refuses the model.

    Example:
        >>> measured = profile.measure(zoo.load("resnet20"), images)
        >>> measured.mean_macs, measured.mean_execution_rate
    """
    return measure_each([model], images, batch_size, progress, called)[0]


def measure_each(
    models: Sequence[keras.Model],
    images: np.ndarray,
    batch_size: int = 32,
    progress: Callable[[int], Any] = lambda done: None,
    called: str = "measure",
    need_macs: bool = True,
) -> list[Measurement]:
    """Does for several networks what `measure` does for one, and reads each image once for all.

    Args:
        models: networks that take images of the same size.
        images: see `measure`.
        batch_size: number of images that run at once.
        progress: called with the number of images that are done.
        called: see `measure`.
        need_macs: False to leave out the MACs of networks whose cost is not known.

    Returns:
        A `Measurement` for each network.

    Raises:
        ValueError: see `measure`.

    Example:
        >>> parts = [model.part(name) for name in model.part_names]
        >>> [m.mean_macs for m in measure_each(parts, images)]
    """
    batch_size = whole_number("batch_size", batch_size)
    worst = [_worst_macs(model, need_macs) for model in models]
    for model in models:
        if len(model.inputs) != 1:
            raise ValueError(
                f"{called} takes a network with one input, images; {model.name!r} has "
                f"{len(model.inputs)} inputs"
            )
    shapes = {tuple(model.input_shape[1:]) for model in models}
    for shape in shapes:
        if getattr(images, "ndim", None) != 4 or tuple(images.shape[1:]) != shape:
            images = checked_images(images, shape, called)
    if not len(images):
        checked_images(images, next(iter(shapes)), called)
    found: list[list[PerImage]] = [[] for _ in models]
    done = 0
    for chunk in _chunks(images, batch_size):
        for model, results in zip(models, found, strict=True):
            checked = checked_images(chunk, tuple(model.input_shape[1:]), called)
            results.append(interface(model).run_images(checked, batch_size))
        done += len(chunk)
        progress(done)
    return [_joined(results, macs) for results, macs in zip(found, worst, strict=True)]


def _worst_macs(model: keras.Model, needed: bool) -> int | None:
    """Counts the MACs of a network; None where they are not known, unless they are needed."""
    try:
        return count(model).macs
    except cost.UnknownCost:
        if needed:
            raise
        return None


def _chunks(images: Any, batch_size: int) -> Iterator[np.ndarray]:
    """Gives all images, chunk by chunk; files are read one batch ahead of the network."""
    if not getattr(images, "in_files", False):
        yield from (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
        return
    starts = range(0, len(images), batch_size)
    with ThreadPoolExecutor(WORKERS) as readers:

        def reading(start: int) -> list:
            rows = range(start, min(start + batch_size, len(images)))
            return [readers.submit(images.__getitem__, row) for row in rows]

        ahead = reading(0)
        for start in starts:
            chunk = np.stack([image.result() for image in ahead])
            ahead = reading(start + batch_size)
            yield chunk


def _joined(results: Sequence[PerImage], worst: int | None) -> Measurement:
    """Joins what the chunks of the images gave."""
    logits = np.concatenate([found.logits for found in results])
    gates = [found.gates for found in results if found.gates is not None]
    macs = [found.macs for found in results if found.macs is not None]
    same = None if worst is None else np.full(len(logits), worst)
    return Measurement(
        np.concatenate(gates) if gates else np.zeros((len(logits), 0, 0), "uint8"),
        logits,
        np.concatenate(macs) if macs else same,
        worst,
    )
