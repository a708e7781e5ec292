"""Data sets of labelled images by name."""

import io
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_dynnets.training.data.drawing import drawn_at_random, drawn_by_class
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.training.data.layout import PhotoFolder, is_photo_folder, read_photo_folder
from keras_dynnets.zoo.run_folders import SplitRule

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Origin and licence of the images, for the cards of weights that were trained on them.
SOURCES = {
    "cifar10": "CIFAR-10: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, "
    "2009; the authors name no licence and ask for this citation",
    "mnist": "MNIST: Y. LeCun, C. Cortes and C. J. C. Burges, after LeCun et al., Gradient-Based "
    "Learning Applied to Document Recognition, 1998; CC BY-SA 3.0 by the Keras documentation",
    "digits": "Optical Recognition of Handwritten Digits: E. Alpaydin and C. Kaynak, 1998, UCI "
    "repository, CC BY 4.0; the copy in scikit-learn",
}


@dataclass(frozen=True)
class Split:
    """A part of a data set: images and their labels.

    Attributes:
        images: (n, height, width, channels), uint8; an array, or `ImageFiles`.
        labels: classes of the images, int32 (n,).
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> "Split":
        """Gives some of the images with their labels.

        Args:
            rows: a slice or an array of positions.
        """
        if isinstance(self.images, ImageFiles):
            return Split(self.images.subset(rows), self.labels[rows])
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: its name.
        classes: names of the classes, in the order of the labels.
        train: images to train on.
        validation: images to make choices by, set aside from the training images.
        test: images to report results on.
        folder: the folder of images that they lie in; None for other data sets.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    folder: PhotoFolder | None = None


def load_data(
    name: str,
    data_dir: str | os.PathLike | None = None,
    validation: int = 2000,
    seed: int = 0,
    image_size: int | Sequence[int] = 224,
    channels: int = 3,
    skip: Collection[str] = (),
    split_rule: SplitRule = "by class",
    classes: Sequence[str] | None = None,
    flat: Literal["train", "test"] = "train",
) -> Data:
    """Loads a data set into memory, or lists the image files of a folder.

    Args:
        name: one of three: "digits", the 1,797 images of handwritten digits in scikit-learn,
            enlarged to 32x32 pixels in three channels, which need no network; the name of a data
            set of TensorFlow Datasets with labelled images of one size, such as "cifar10" or
            "mnist"; or any name, if `data_dir` is a folder of images. If that holds `CLASS/*`, the
            name must be another one than the two above: what it names is then looked for.
        data_dir: one of three: a folder of images, see below; a folder with prepared data sets of
            TensorFlow Datasets; or a `.npz` file with CIFAR-10 as JPEG, which is read without
            TensorFlow. The default is the environment variable TFDS_DATA_DIR, or else the default
            folder of TensorFlow Datasets.
        validation: number of images to set aside from the training images, at most a tenth of
            them.
        seed: seed of the choice of the validation images, and of the test images if the data set
            has none.
        image_size: height and width in pixels, one number or a pair, of images that are read from a
            folder of images.
        channels: channels of such images, 3 or 1.
        skip: files in a folder of images to leave out, by their paths relative to the folder.
        split_rule: how images are drawn from a folder of images: "by class", the same share of
            each class and at least one image; or "at random", as earlier versions did.
        classes: names of the classes in the order of the labels, for a folder that has test images
            alone, which need not be of all classes.
        flat: "test" to take all images of a folder with `CLASS/*` as test images.

    A folder of images has the folders `train/CLASS/*` and `test/CLASS/*`, and `val/CLASS/*` (or
    `valid`, or `validation`) if there are images for validation. Without `test`, the images in
    `val` are the test images, and without both a sixth of the images of each class; validation
    images are drawn from the training images wherever no folder is left for them. A folder that
    holds the folders of the classes themselves, `CLASS/*`, is one without `test` and `val`. One
    with `test` alone has no training images.

    Returns:
        The data set.

    Raises:
        ValueError: `data_dir` does not exist, the name is unknown, or the folder has no classes,
            a class without an image, or other classes for the test than for the training.
        RuntimeError: the data set is not on this machine and could not be downloaded.

    Example:
        >>> data = load_data("digits")
        >>> data.train.images.shape
        (1349, 32, 32, 3)
    """
    by_default = not data_dir  # $TFDS_DATA_DIR may hold images that TensorFlow Datasets put there
    data_dir = _place(data_dir, name)
    rng = np.random.default_rng(seed)
    if data_dir and _holds_photos(Path(data_dir), name, by_default):
        found = read_photo_folder(Path(data_dir), skip, split_rule, classes, flat)
        return _of_folder(name, found, validation, rng, image_size, channels)
    if name == "digits":
        train, test, names = _digits(), None, tuple("0123456789")
    elif name == "cifar10" and data_dir and str(data_dir).endswith(".npz"):
        (train, test), names = _cifar10_npz(data_dir), CIFAR10
    else:
        train, test, names = _tfds(name, data_dir, by_default)
    rows, chosen, held_out = drawn_at_random(len(train), validation, rng, test is None)
    test = train.take(held_out) if test is None else test
    return Data(name, names, train.take(rows), train.take(chosen), test)


def _holds_photos(place: Path, name: str, by_default: bool) -> bool:
    """Says whether a folder is meant as a folder of images.

    Raises:
        ValueError: the images lie in `CLASS/*` without `train`, and the name is that of a data set
            of TensorFlow Datasets, which would be downloaded to them.
    """
    if is_photo_folder(place, parts_only=True):
        return True
    if by_default or name == "digits" or not is_photo_folder(place):
        return False
    if not _in_tfds(name):
        return True
    if (place / name).is_dir():
        return False
    raise ValueError(
        f"{place} holds folders of images and no {name} prepared by TensorFlow Datasets; give the "
        f"images a name of their own (--data photos), or give another folder for {name}"
    )


def _in_tfds(name: str) -> bool:
    import tensorflow_datasets as tfds

    return name in tfds.list_builders()


def _of_folder(
    name: str,
    found: PhotoFolder,
    validation: int,
    rng: np.random.Generator,
    size: int | Sequence[int],
    channels: int,
) -> Data:
    """Makes the data set of a folder of images, and draws the parts that it has no folder for."""
    none = Split(ImageFiles([], size, channels), np.zeros(0, "int32"))
    parts = {
        part: Split(ImageFiles(listing.paths, size, channels), listing.labels)
        for part, listing in found.parts.items()
    }
    if "train" in parts:
        train, draws_test = parts["train"], "test" not in parts
        if found.split_rule == "at random":
            drawn = drawn_at_random(len(train), validation, rng, draws_test)
        else:
            number = None if "validation" in parts else validation
            drawn = drawn_by_class(train.labels, found.classes, number, rng, draws_test)
        splits = zip(("train", "validation", "test"), map(train.take, drawn), strict=True)
        parts = {**dict(splits), **{part: s for part, s in parts.items() if part != "train"}}
    train, chosen, test = (parts.get(part, none) for part in ("train", "validation", "test"))
    return Data(name, found.classes, train, chosen, test, found)


def _place(data_dir: str | os.PathLike | None, name: str) -> str | None:
    """Gives where the data lies, or refuses a place that does not exist."""
    if not data_dir:
        usual = os.environ.get("TFDS_DATA_DIR")
        return str(Path(usual).expanduser()) if usual else None
    if "://" in str(data_dir):  # a bucket, which TensorFlow Datasets opens
        return str(data_dir)
    place = Path(data_dir).expanduser()
    if place.is_dir() or (place.is_file() and name == "cifar10" and place.suffix == ".npz"):
        return str(place)
    raise ValueError(
        f"{place} is not a folder; data_dir (--data-dir) is a folder with train/CLASS/*, a folder "
        "with prepared data sets of TensorFlow Datasets, or for cifar10 a .npz file"
    )


def _digits() -> Split:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images * (255 / 16), np.ones((4, 4))).astype("uint8")
    return Split(np.repeat(images[..., None], 3, axis=-1), digits.target.astype("int32"))


def _tfds(
    name: str, data_dir: str | os.PathLike | None, by_default: bool
) -> tuple[Split, Split, tuple[str, ...]]:
    import tensorflow_datasets as tfds

    if not _in_tfds(name):
        if not by_default and "://" not in str(data_dir):
            raise ValueError(
                f"{data_dir} holds no images in folders of classes, such as train/CLASS/* or "
                f"CLASS/*, and data set {name!r} is no name of TensorFlow Datasets"
            )
        raise ValueError(
            f"data set {name!r} is unknown: it is digits, a name of TensorFlow Datasets such as "
            "cifar10 or mnist, or any name with a data_dir (--data-dir) that holds the folders "
            "train/CLASS and test/CLASS with images"
        )
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        features, splits = builder.info.features, builder.info.splits
        held_out = "validation" if "validation" in splits and "test" not in splits else "test"
        if not {"image", "label"} <= set(features or ()) or None in features["image"].shape:
            raise ValueError(
                f"{name} has no labelled images of one size; put its images into a folder for each "
                f"class and give that folder as data_dir (--data-dir)"
            )
        sets, info = tfds.load(
            name, split=["train", held_out], batch_size=-1, data_dir=data_dir, with_info=True
        )
    except ValueError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"{name} is not in {data_dir or 'the default TFDS folder'} and could not be downloaded "
            f"({error}). Set TFDS_DATA_DIR (or --data-dir) to a folder that holds it prepared by "
            "TensorFlow Datasets"
        ) from error
    train, test = (Split(s["image"].numpy(), s["label"].numpy().astype("int32")) for s in sets)
    classes = CIFAR10 if name == "cifar10" else tuple(info.features["label"].names)
    return train, test, classes


def _cifar10_npz(path: str | os.PathLike) -> tuple[Split, Split]:
    from PIL import Image

    archive = np.load(path)

    def split(name: str) -> Split:
        ends = archive[f"{name}_end"]
        raw = archive[f"{name}_jpeg"].tobytes()
        starts = np.r_[0, ends[:-1]]
        images = [
            np.asarray(Image.open(io.BytesIO(raw[a:b]))) for a, b in zip(starts, ends, strict=True)
        ]
        return Split(np.stack(images), archive[f"{name}_label"].astype("int32"))

    return split("train"), split("test")
