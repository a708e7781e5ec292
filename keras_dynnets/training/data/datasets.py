"""Labelled images by name."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_dynnets.training.data.image_files import ImageFiles, class_folders

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Whose images they are, for the cards of weights that learned from them.
SOURCES = {
    "cifar10": "CIFAR-10: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; "
    "the authors name no licence and ask for this citation; "
    "this project's trainings read a copy with the images as JPEG",
    "mnist": "MNIST: Y. LeCun, C. Cortes and C. J. C. Burges, after LeCun et al., Gradient-Based Learning Applied to "
    "Document Recognition, 1998; CC BY-SA 3.0 by the Keras documentation",
    "digits": "Optical Recognition of Handwritten Digits: E. Alpaydin and C. Kaynak, 1998, UCI repository, CC BY 4.0; "
    "the copy in scikit-learn",
}


@dataclass(frozen=True)
class Split:
    """Images (n, height, width, channels), uint8, in memory or `ImageFiles`, and their classes (n,), int32."""

    images: np.ndarray | ImageFiles
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, rows):
        images = (
            self.images.subset(rows) if isinstance(self.images, ImageFiles) else self.images[rows]
        )
        return Split(images, self.labels[rows])


@dataclass(frozen=True)
class Data:
    """A data set: what is trained on, what choices are made by, what is reported."""

    name: str
    classes: tuple
    train: Split
    validation: Split
    test: Split


def load_data(name, data_dir=None, validation=2000, seed=0, image_size=224, channels=3):
    """Loads a data set: in memory, or as files that are read when they are wanted.

    Args:
        name: "digits", scikit-learn's 1,797 real images of handwritten digits, enlarged to 32x32 in three channels (no
            network); a name of TensorFlow Datasets with images of one size and labels, such as "cifar10" or "mnist"; or, with
            a folder of images, any name for them.
        data_dir: a folder of images: `train/CLASS/*`, and `test/CLASS/*`, `val/CLASS/*` or `validation/CLASS/*`; without these a
            sixth of the images becomes the test set. Or a folder of prepared TFDS data sets, or a `.npz` file with CIFAR-10 as
            JPEG (for machines without TensorFlow). Default: the environment's TFDS_DATA_DIR, else TFDS's own.
        validation: images set aside from the training set, a tenth of it at most.
        seed: of the choice of these, and of a test set where there is none.
        image_size, channels: that images in a folder are read in.

    Raises:
        ValueError: an unknown name, a folder without classes or with other ones for the test.
        RuntimeError: the data is neither there nor to be had over the network.
    """
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    rng = np.random.default_rng(seed)
    if data_dir and (Path(data_dir) / "train").is_dir():
        train, test, classes = _folder(Path(data_dir), image_size, channels)
    elif name == "digits":
        train, test, classes = _digits(), None, tuple("0123456789")
    elif name == "cifar10" and str(data_dir).endswith(".npz"):
        (train, test), classes = _cifar10_npz(data_dir), CIFAR10
    else:
        train, test, classes = _tfds(name, data_dir)
    if test is None:
        order, cut = rng.permutation(len(train)), len(train) // 6
        train, test = train.take(order[cut:]), train.take(order[:cut])
    validation = min(validation, len(train) // 10)
    order = rng.permutation(len(train))
    return Data(name, classes, train.take(order[validation:]), train.take(order[:validation]), test)


def _folder(folder, size, channels):
    """Train and test, None without one, and the classes of a folder of images."""
    classes, *train = class_folders(folder / "train")
    splits = [Split(ImageFiles(train[0], size, channels), train[1]), None]
    there = [folder / name for name in ("test", "val", "validation") if (folder / name).is_dir()]
    right = [
        path for path in there if {p.name for p in path.iterdir() if p.is_dir()} == set(classes)
    ]
    if there and not right:
        other = sorted({p.name for p in there[0].iterdir() if p.is_dir()} ^ set(classes))[:5]
        raise ValueError(
            f"{there[0]} has other folders than {folder / 'train'}, one for each class: {', '.join(other)} is in one alone"
        )
    if right:
        _, paths, labels = class_folders(right[0])
        splits[1] = Split(ImageFiles(paths, size, channels), labels)
    return *splits, classes


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images * (255 / 16), np.ones((4, 4))).astype("uint8")
    return Split(np.repeat(images[..., None], 3, axis=-1), digits.target.astype("int32"))


def _tfds(name, data_dir):
    import tensorflow_datasets as tfds

    if name not in tfds.list_builders():
        raise ValueError(
            f"data set {name!r} is unknown: it is digits, a name of TensorFlow Datasets such as cifar10 or mnist, or "
            "any name with a data_dir (--data-dir) that has the folders train/CLASS and test/CLASS with images"
        )
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        features, splits = builder.info.features, builder.info.splits
        held_out = "validation" if "validation" in splits and "test" not in splits else "test"
        if not {"image", "label"} <= set(features or ()) or None in features["image"].shape:
            raise ValueError(
                f"{name} has no labelled images of one size; put them into a folder for each class instead"
            )
        sets, info = tfds.load(
            name, split=["train", held_out], batch_size=-1, data_dir=data_dir, with_info=True
        )
    except ValueError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"{name} is not in {data_dir or 'the default TFDS folder'} and could not be downloaded ({error}). "
            "Set TFDS_DATA_DIR (or --data-dir) to a folder that holds it prepared by TensorFlow Datasets"
        ) from error
    splits = [Split(s["image"].numpy(), s["label"].numpy().astype("int32")) for s in sets]
    return *splits, CIFAR10 if name == "cifar10" else tuple(info.features["label"].names)


def _cifar10_npz(path):
    import io

    from PIL import Image

    archive = np.load(path)

    def split(name):
        ends = archive[f"{name}_end"]
        raw = archive[f"{name}_jpeg"].tobytes()
        starts = np.r_[0, ends[:-1]]
        images = [
            np.asarray(Image.open(io.BytesIO(raw[a:b]))) for a, b in zip(starts, ends, strict=True)
        ]
        return Split(np.stack(images), archive[f"{name}_label"].astype("int32"))

    return split("train"), split("test")
