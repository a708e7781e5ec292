"""Labelled images in memory, by name."""

import os
from dataclasses import dataclass

import numpy as np

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DATA_SETS = ("cifar10", "mnist", "digits")
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
    """Images (n, height, width, channels), uint8, and their classes (n,), int32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, rows):
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Data:
    """A data set: what is trained on, what choices are made by, what is reported."""

    name: str
    classes: tuple
    train: Split
    validation: Split
    test: Split


def load_data(name, data_dir=None, validation=2000, seed=0):
    """Loads a data set whole.

    Args:
        name: "cifar10" or "mnist" (gray, 28x28), by TensorFlow Datasets, or "digits", scikit-learn's
            1,797 real images of handwritten digits, enlarged to 32x32 in three channels (no network).
        data_dir: folder of prepared TFDS data sets, or a `.npz` file with CIFAR-10 as
            JPEG (for machines without TensorFlow). Default: the environment's
            TFDS_DATA_DIR, else TFDS's own.
        validation: images set aside from the training set.
        seed: of the choice of these (the digits have no split of their own: a
            sixth of them becomes the test set, by the same seed).

    Raises:
        ValueError: an unknown name.
        RuntimeError: the data is neither there nor to be had over the network.
    """
    if name not in DATA_SETS:
        raise ValueError(f"data set {name!r} is unknown; it is one of {', '.join(DATA_SETS)}")
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    rng = np.random.default_rng(seed)
    if name == "digits":
        train, test = _digits(rng)
        validation = min(validation, len(train) // 10)
        classes = tuple("0123456789")
    else:
        train, test = _cifar10_npz(data_dir) if name == "cifar10" and str(data_dir).endswith(".npz") else _tfds(name, data_dir)
        classes = tuple("0123456789") if name == "mnist" else CIFAR10
    order = rng.permutation(len(train))
    return Data(name, classes, train.take(order[validation:]), train.take(order[:validation]), test)


def _digits(rng):
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images * (255 / 16), np.ones((4, 4))).astype("uint8")
    images = np.repeat(images[..., None], 3, axis=-1)
    order = rng.permutation(len(images))
    cut = len(images) // 6
    everything = Split(images, digits.target.astype("int32"))
    return everything.take(order[cut:]), everything.take(order[:cut])


def _tfds(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        sets = tfds.load(name, split=["train", "test"], batch_size=-1, data_dir=data_dir)
    except Exception as error:
        raise RuntimeError(
            f"{name} is not in {data_dir or 'the default TFDS folder'} and could not be downloaded ({error}). "
            "Set TFDS_DATA_DIR (or --data-dir) to a folder that holds it prepared by TensorFlow Datasets"
        ) from error
    return [Split(s["image"].numpy(), s["label"].numpy().astype("int32")) for s in sets]


def _cifar10_npz(path):
    import io

    from PIL import Image

    archive = np.load(path)

    def split(name):
        ends = archive[f"{name}_end"]
        raw = archive[f"{name}_jpeg"].tobytes()
        starts = np.r_[0, ends[:-1]]
        images = [np.asarray(Image.open(io.BytesIO(raw[a:b]))) for a, b in zip(starts, ends, strict=True)]
        return Split(np.stack(images), archive[f"{name}_label"].astype("int32"))

    return split("train"), split("test")
