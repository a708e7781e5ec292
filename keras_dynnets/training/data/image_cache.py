"""Keeps images that were read from files, so that the next epoch need not decode them again."""

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dynnets.core.photos import read_image

if TYPE_CHECKING:
    from keras_dynnets.training.data.datasets import Data, Split

VERSION = 1  # of the steps of `read_image`; another one makes what is on disk count no more


class ImageCache:
    """Images in the size of a network's input, in memory or in a folder.

    An image is known by the path, the size and the time of change of its file, so that a file that
    has changed is read again. In a folder each image is a file of its own, which is written under
    another name first: what a stopped program leaves is whole or not used.

    Args:
        folder: where the images are kept, height x width x channels bytes for each; None to keep
            them in memory. The folder is made if it does not exist.

    Example:
        >>> files = ImageFiles(paths, 224, cache=ImageCache())
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = None if folder is None else Path(folder).expanduser()
        self._images: dict[str, np.ndarray] = {}

    def image(self, path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
        """Gives an image, from the cache or else from its file.

        Args:
            path: the file.
            size: (height, width) in pixels.
            channels: 3 or 1.

        Returns:
            The image as `read_image` gives it.

        Raises:
            ValueError: the file cannot be read as an image.
        """
        try:
            found = os.stat(path)
        except OSError:
            return read_image(path, size, channels)  # which says what is wrong
        parts = (VERSION, path.absolute(), found.st_size, found.st_mtime_ns, *size, channels)
        key = hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape"))
        key = key.hexdigest()
        kept = self._kept(key, (*size, channels))
        if kept is None:
            kept = read_image(path, size, channels)
            self._keep(key, kept)
        return kept

    def _kept(self, key: str, shape: tuple[int, int, int]) -> np.ndarray | None:
        if self.folder is None:
            return self._images.get(key)
        try:
            content = (self.folder / key[:2] / key).read_bytes()
        except OSError:
            return None
        whole = len(content) == np.prod(shape)
        return np.frombuffer(content, "uint8").reshape(shape) if whole else None

    def _keep(self, key: str, image: np.ndarray) -> None:
        if self.folder is None:
            image.flags.writeable = False
            self._images[key] = image
            return
        place = self.folder / key[:2]
        place.mkdir(parents=True, exist_ok=True)
        draft, name = tempfile.mkstemp(prefix=f".{key}-", dir=place)
        try:
            with os.fdopen(draft, "wb") as file:
                file.write(image.tobytes())
            os.replace(name, place / key)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def cached(data: "Data", place: str | os.PathLike) -> "Data":
    """Gives the same data set, whose images in files are kept once they were read.

    Random parts of images (`resized_crop`) are read from their files each time.

    Args:
        data: the data set. One in memory is given back as it is.
        place: "memory", "none", or a folder, which may serve several data sets.

    Returns:
        The data set.

    Example:
        >>> data = cached(load_data("photos", "photos"), "photos-224")
    """
    if place == "none":
        return data
    cache = ImageCache(None if place == "memory" else place)

    def kept(split: "Split") -> "Split":
        images: Any = split.images
        in_files = getattr(images, "in_files", False)
        return replace(split, images=images.cached(cache)) if in_files else split

    splits = {name: kept(getattr(data, name)) for name in ("train", "validation", "test")}
    return replace(data, **splits)
