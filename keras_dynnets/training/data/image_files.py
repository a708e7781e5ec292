"""Images in files, with a folder for each class, which are read when they are needed."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dynnets.core.photos import Box, height_and_width, read_image, read_part
from keras_dynnets.training.data.image_cache import ImageCache

AREA = (0.08, 1.0)  # area of a random crop as a share of the image's area
RATIO = (3 / 4, 4 / 3)  # width of a random crop divided by its height


class ImageFiles:
    """Image files that are indexed like an array (n, height, width, channels), uint8.

    Indexing reads the files, each as `read_image` does: upright, opaque, its middle resized.

    Args:
        paths: paths of the files.
        size: height and width of the images in pixels, one number for a square or a pair.
        channels: 3 for colour, 1 for gray.
        cache: keeps images that were read once; None to read them each time.
    """

    dtype = np.dtype("uint8")
    ndim = 4
    in_files = True  # so that the images are read in parts, see `core.images.array_or_files`

    def __init__(
        self,
        paths: Iterable[str | os.PathLike],
        size: int | Sequence[int],
        channels: int = 3,
        cache: ImageCache | None = None,
    ):
        self.paths = np.array([Path(path) for path in paths], object)
        self.size = height_and_width(size)
        self.channels = channels
        self.cache = cache

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (n, height, width, channels)."""
        return (len(self.paths), *self.size, self.channels)

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: Any) -> "ImageFiles":
        """Gives some of the images without reading them.

        Args:
            rows: a slice or an array of positions.
        """
        return ImageFiles(self.paths[rows], self.size, self.channels, self.cache)

    def cached(self, cache: ImageCache) -> "ImageFiles":
        """Gives the same images, kept by a cache once they were read.

        Args:
            cache: the cache.
        """
        return ImageFiles(self.paths, self.size, self.channels, cache)

    def __getitem__(self, rows: Any) -> np.ndarray:
        paths = self.paths[rows]
        if isinstance(paths, Path):
            return self._read(paths)
        return self._stacked(map(self._read, paths))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def cropped(self, rows: Sequence[int] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Reads a random part of each of some images, resized to `size`.

        A part has 8 % to 100 % of the area of its image and a width of 3/4 to 4/3 of its height.
        Parts are not kept by the cache, because each is another one.

        Args:
            rows: positions of the images, (n,).
            rng: the generator of the random parts.

        Returns:
            Images (n, height, width, channels), uint8.
        """

        def part(width: int, height: int) -> Box:
            area = width * height * rng.uniform(*AREA)
            ratio = np.exp(rng.uniform(*np.log(RATIO)))
            part_width = min(width, np.sqrt(area * ratio))
            part_height = min(height, np.sqrt(area / ratio))
            left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
            return left, top, left + part_width, top + part_height

        return self._stacked(
            read_part(path, self.size, self.channels, part) for path in self.paths[rows]
        )

    def _stacked(self, images: Iterable[np.ndarray]) -> np.ndarray:
        images = [*images]
        return np.stack(images) if images else np.zeros((0, *self.shape[1:]), "uint8")

    def _read(self, path: Path) -> np.ndarray:
        if self.cache is None:
            return read_image(path, self.size, self.channels)
        return self.cache.image(path, self.size, self.channels)
