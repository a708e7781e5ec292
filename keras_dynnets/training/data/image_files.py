"""Images in files, with a folder for each class, which are read when they are needed."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

MARGIN = 256 / 224  # shorter side of an image divided by the side of the square that is cut out
AREA = (0.08, 1.0)  # area of a random crop as a share of the image's area
RATIO = (3 / 4, 4 / 3)  # width of a random crop divided by its height


class ImageFiles:
    """Image files that are indexed like an array (n, size, size, channels), uint8.

    Indexing reads the files. From each image it takes a square in the middle, whose side is 1/1.14
    of the shorter side of the image, and resizes it to `size`: the usual evaluation on ImageNet,
    which resizes to 256 pixels and takes the middle 224. An image of exactly `size` is used whole.

    Args:
        paths: paths of the files.
        size: height and width of the images in pixels.
        channels: 3 for colour, 1 for gray.
    """

    dtype = np.dtype("uint8")
    ndim = 4

    def __init__(self, paths: Iterable[str | os.PathLike], size: int, channels: int = 3):
        self.paths = np.array([Path(path) for path in paths], object)
        self.size = size
        self.channels = channels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (n, size, size, channels)."""
        return (len(self.paths), self.size, self.size, self.channels)

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: Any) -> "ImageFiles":
        """Gives some of the images without reading them.

        Args:
            rows: a slice or an array of positions.
        """
        return ImageFiles(self.paths[rows], self.size, self.channels)

    def __getitem__(self, rows: Any) -> np.ndarray:
        paths = self.paths[rows]
        if isinstance(paths, Path):
            return self._middle(paths)
        return self._stacked(map(self._middle, paths))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def cropped(self, rows: Sequence[int] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Reads a random part of each of some images, resized to `size`.

        A part has 8 % to 100 % of the area of its image and a width of 3/4 to 4/3 of its height.

        Args:
            rows: positions of the images, (n,).
            rng: the generator of the random parts.

        Returns:
            Images (n, size, size, channels), uint8.
        """
        return self._stacked(self._part(path, rng) for path in self.paths[rows])

    def _stacked(self, images: Iterable[np.ndarray]) -> np.ndarray:
        images = [*images]
        return np.stack(images) if images else np.zeros((0, *self.shape[1:]), "uint8")

    def _middle(self, path: Path) -> np.ndarray:
        image = self._opened(path)
        width, height = image.size
        if (width, height) == (self.size, self.size):
            return self._resized(image, None)
        side = min(width, height) / MARGIN
        left, top = (width - side) / 2, (height - side) / 2
        return self._resized(image, (left, top, left + side, top + side))

    def _part(self, path: Path, rng: np.random.Generator) -> np.ndarray:
        image = self._opened(path)
        width, height = image.size
        area = width * height * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        part_width = min(width, np.sqrt(area * ratio))
        part_height = min(height, np.sqrt(area / ratio))
        left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
        return self._resized(image, (left, top, left + part_width, top + part_height))

    def _resized(self, image: Image.Image, box: tuple | None) -> np.ndarray:
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image).reshape(self.shape[1:])

    def _opened(self, path: Path) -> Image.Image:
        try:
            with Image.open(path) as image:
                if image.mode.startswith("I"):  # 16 bits a pixel; `convert` would clip them at 255
                    image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype("uint8"))
                return image.convert("RGB" if self.channels == 3 else "L")
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as an image ({error}); replace the file or remove it"
            ) from error
