"""Images that a model gets: as an array, or in files that are indexed like one."""

from typing import Any

import numpy as np


def array_or_files(images: Any) -> Any:
    """Gives images as an array; images in files stay as they are, so that none is read.

    Images in files have the attribute `in_files`. They give an array for the rows that they are
    indexed with, and others without reading by their method `subset`.

    Args:
        images: (n, height, width, channels).
    """
    return images if getattr(images, "in_files", False) else np.asarray(images)


def first(images: Any, count: int) -> Any:
    """Gives the first images, of images in files without reading any.

    Args:
        images: (n, height, width, channels), an array or images in files.
        count: how many at most.
    """
    rows = slice(count)
    return images.subset(rows) if getattr(images, "in_files", False) else images[rows]


def checked_shape(
    images: np.ndarray, shape: tuple[int, ...], called: str = "this model"
) -> np.ndarray:
    """Checks that images have the shape that a model takes, and gives them as an array.

    Args:
        images: (n, height, width, channels); images in files are given back as they are.
        shape: (height, width, channels) of the model.
        called: what takes the images, the first words of the error message.

    Raises:
        ValueError: the images have another shape, or there are none.
    """
    images = array_or_files(images)
    if images.ndim != 4 or images.shape[1:] != tuple(shape) or not len(images):
        raise ValueError(
            f"{called} takes images of shape (n, {', '.join(map(str, shape))}) with n of 1 or "
            f"more, not {images.shape}; resize them (keras.ops.image.resize), and give a single "
            "image as image[None]"
        )
    return images


def checked_images(
    images: np.ndarray, shape: tuple[int, ...], called: str = "this model"
) -> np.ndarray:
    """Checks the shape, type and range of images for a model, and gives them as an array.

    Args:
        images: (n, height, width, channels), uint8 or float, in [0, 255].
        shape: (height, width, channels) of the model.
        called: what takes the images, the first words of the error message.

    Raises:
        ValueError: the images have another shape, type or range, or a value is not finite.
    """
    images = checked_shape(images, shape, called)
    if images.dtype != "uint8" and images.dtype.kind != "f":
        raise ValueError(
            f"images are uint8 or float, in [0, 255], not {images.dtype}; convert them with "
            "images.astype('uint8')"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # so written, NaN is refused too
        raise ValueError(
            f"images lie in [0, 255], not in [{low}, {high}]; the model normalises them itself, so "
            "undo yours"
        )
    if images.dtype.kind == "f" and 0 < high <= 1:
        raise ValueError(
            f"images lie in [0, 255], and these in [{low}, {high}]: scaled to 1, it seems; "
            "multiply them by 255"
        )
    return images
