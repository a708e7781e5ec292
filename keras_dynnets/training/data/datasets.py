"""Data sets of labelled images by name."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_dynnets.training.data.image_files import ImageFiles, class_folders

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
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


def load_data(
    name: str,
    data_dir: str | os.PathLike | None = None,
    validation: int = 2000,
    seed: int = 0,
    image_size: int | Sequence[int] = 224,
    channels: int = 3,
) -> Data:
    """Loads a data set into memory, or lists the image files of a folder.

    Args:
        name: one of three: "digits", the 1,797 images of handwritten digits in scikit-learn,
            enlarged to 32x32 pixels in three channels, which need no network; the name of a data
            set of TensorFlow Datasets with labelled images of one size, such as "cifar10" or
            "mnist"; or any name, if `data_dir` is a folder of images.
        data_dir: one of three: a folder of images `train/CLASS/*` and `test/CLASS/*` (or
            `val/CLASS/*` or `validation/CLASS/*`; without such a folder a sixth of the images
            becomes the test set); a folder with prepared data sets of TensorFlow Datasets; or a
            `.npz` file with CIFAR-10 as JPEG, which is read without TensorFlow. The default is the
            environment variable TFDS_DATA_DIR, or else the default folder of TensorFlow Datasets.
        validation: number of images to set aside from the training images, at most a tenth of
            them.
        seed: seed of the choice of the validation images, and of the test images if the data set
            has none.
        image_size: height and width in pixels, one number or a pair, of images that are read from a
            folder of images.
        channels: channels of such images, 3 or 1.

    Returns:
        The data set.

    Raises:
        ValueError: `data_dir` does not exist, the name is unknown, or the folder has no classes or
            other classes for the test than for the training.
        RuntimeError: the data set is not on this machine and could not be downloaded.

    Example:
        >>> data = load_data("digits")
        >>> data.train.images.shape
        (1349, 32, 32, 3)
    """
    data_dir = _place(data_dir, name)
    rng = np.random.default_rng(seed)
    if data_dir and (Path(data_dir) / "train").is_dir():
        train, test, classes = _folder(Path(data_dir), image_size, channels)
    elif name == "digits":
        train, test, classes = _digits(), None, tuple("0123456789")
    elif name == "cifar10" and data_dir and str(data_dir).endswith(".npz"):
        (train, test), classes = _cifar10_npz(data_dir), CIFAR10
    else:
        train, test, classes = _tfds(name, data_dir)
    if test is None:
        order, cut = rng.permutation(len(train)), len(train) // 6
        train, test = train.take(order[cut:]), train.take(order[:cut])
    validation = min(validation, len(train) // 10)
    order = rng.permutation(len(train))
    return Data(name, classes, train.take(order[validation:]), train.take(order[:validation]), test)


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


def _folder(
    folder: Path, size: int | Sequence[int], channels: int
) -> tuple[Split, Split | None, tuple[str, ...]]:
    """Gives the training images, the test images (None without any) and the class names."""
    classes, paths, labels = class_folders(folder / "train")
    train = Split(ImageFiles(paths, size, channels), labels)
    held_out = [folder / name for name in ("test", "val", "validation")]
    held_out = {path: _folder_names(path) for path in held_out if path.is_dir()}
    matching = [path for path, names in held_out.items() if names == set(classes)]
    if matching:
        _, paths, labels = class_folders(matching[0])
        return train, Split(ImageFiles(paths, size, channels), labels), classes
    if held_out:
        path, names = next(iter(held_out.items()))
        other = ", ".join(sorted(names ^ set(classes))[:5])
        raise ValueError(
            f"{path} and {folder / 'train'} must hold the same folders, one for each class; only "
            f"one of them holds: {other}"
        )
    return train, None, classes


def _folder_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def _digits() -> Split:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images * (255 / 16), np.ones((4, 4))).astype("uint8")
    return Split(np.repeat(images[..., None], 3, axis=-1), digits.target.astype("int32"))


def _tfds(name: str, data_dir: str | os.PathLike | None) -> tuple[Split, Split, tuple[str, ...]]:
    import tensorflow_datasets as tfds

    if name not in tfds.list_builders():
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
                "class and give that folder as data_dir (--data-dir)"
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
