"""Images in files, a folder for each class, read when they are wanted."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
MARGIN = 256 / 224  # of a side before the middle is cut out
AREA = (0.08, 1.0)  # of a random crop, in parts of the image's
RATIO = (3 / 4, 4 / 3)  # of its sides


class ImageFiles:
    """Files that stand for an array of images (n, size, size, 3), uint8.

    What is indexed is read: the middle of every image, from a square whose side is 1 / 1.14 of the image's
    shorter one, resized to `size`, as the field does (256 and 224 pixels); an image that has this size stays as it is.

    Args:
        paths: of the files. size: of the images, pixels. channels: 3, or 1 for gray.
    """

    dtype = np.dtype("uint8")
    ndim = 4

    def __init__(self, paths, size, channels=3):
        self.paths, self.size, self.channels = (
            np.array([Path(path) for path in paths], object),
            size,
            channels,
        )

    @property
    def shape(self):
        return (len(self.paths), self.size, self.size, self.channels)

    def __len__(self):
        return len(self.paths)

    def subset(self, rows):
        """Those of some rows, still unread."""
        return ImageFiles(self.paths[rows], self.size, self.channels)

    def __getitem__(self, rows):
        paths = self.paths[rows]
        return (
            self._middle(paths)
            if isinstance(paths, Path)
            else self._stacked(map(self._middle, paths))
        )

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def cropped(self, rows, rng):
        """Random parts of images, resized: 8 % to all of the area, sides in a ratio of 3/4 to 4/3."""
        return self._stacked(self._part(path, rng) for path in self.paths[rows])

    def _stacked(self, images):
        images = [*images]
        return np.stack(images) if images else np.zeros((0, *self.shape[1:]), "uint8")

    def _middle(self, path):
        image = self._opened(path)
        width, height = image.size
        side = min(width, height)
        if (width, height) == (self.size, self.size):
            return self._resized(image, None)
        side /= MARGIN
        left, top = (width - side) / 2, (height - side) / 2
        return self._resized(image, (left, top, left + side, top + side))

    def _part(self, path, rng):
        image = self._opened(path)
        width, height = image.size
        area = width * height * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        part_width, part_height = (
            min(width, np.sqrt(area * ratio)),
            min(height, np.sqrt(area / ratio)),
        )
        left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
        return self._resized(image, (left, top, left + part_width, top + part_height))

    def _resized(self, image, box):
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image).reshape(self.shape[1:])

    def _opened(self, path):
        try:
            with Image.open(path) as image:
                if image.mode.startswith(
                    "I"
                ):  # 16 bits a pixel, which `convert` would cut off at 255
                    image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype("uint8"))
                return image.convert("RGB" if self.channels == 3 else "L")
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as an image ({error}); mend it or take it away"
            ) from error


def class_folders(folder):
    """The files of a folder with one folder for each class, at any depth inside.

    Returns:
        Names of the classes, sorted; the paths; the class of each.

    Raises:
        ValueError: there are no classes, or one without an image.
    """
    folder = Path(folder)
    classes = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not classes:
        raise ValueError(
            f"{folder} has no folders; it is to hold one for each class, with images in it"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(
            path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES
        )
        if not found:
            raise ValueError(
                f"{folder / name} holds no image ({', '.join(SUFFIXES)}); take the folder away or fill it"
            )
        paths += found
        labels += [label] * len(found)
    return tuple(classes), paths, np.array(labels, "int32")
