import io
import os
from pathlib import Path

import numpy as np
import pytest

from keras_dynnets.training import load_data


def rows(split):
    return {
        image.tobytes() + bytes([label])
        for image, label in zip(split.images, split.labels, strict=True)
    }


def test_digits():
    data = load_data("digits", validation=100)
    assert data.name == "digits" and data.classes == tuple("0123456789")
    assert (len(data.train), len(data.validation), len(data.test)) == (1398, 100, 299)
    for split in (data.train, data.validation, data.test):
        assert split.images.shape == (len(split), 32, 32, 3) and split.images.dtype == "uint8"
        assert split.labels.dtype == "int32" and set(split.labels) == set(range(10))
        assert split.images.min() == 0 and split.images.max() == 255


def test_digits_are_real_digits_enlarged():
    from sklearn.datasets import load_digits

    data, originals = load_data("digits"), load_digits()
    wanted = {(image * (255 / 16)).astype("uint8").tobytes() for image in originals.images}
    for image in data.test.images[:20]:
        np.testing.assert_array_equal(image[..., 0], image[..., 2])
        assert image[::4, ::4, 0].tobytes() in wanted
        np.testing.assert_array_equal(image[3::4, 3::4], image[::4, ::4])


def test_digits_splits_share_no_image():
    data = load_data("digits")
    train, validation, test = rows(data.train), rows(data.validation), rows(data.test)
    assert not train & validation and not train & test and not validation & test


def test_the_seed_decides_the_splits():
    first, again, other = (
        load_data("digits", seed=1),
        load_data("digits", seed=1),
        load_data("digits", seed=2),
    )
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert rows(first.test) != rows(other.test)


def test_validation_takes_at_most_a_tenth_of_the_digits():
    assert len(load_data("digits").validation) == 149


def test_unknown_name():
    with pytest.raises(
        ValueError,
        match="data set 'cifar' is unknown: it is digits, a name of TensorFlow Datasets such as "
        ".* train/CLASS",
    ):
        load_data("cifar")


def test_missing_cifar10(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    def offline(*args, data_dir, **kwargs):
        assert data_dir == str(tmp_path)
        raise OSError("no network")

    monkeypatch.setattr(tfds, "load", offline)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"cifar10 is not in .*\(no network\)\. Set TFDS_DATA_DIR"
    ):
        load_data("cifar10")


def test_cifar10_from_jpeg_archive(tmp_path):
    from PIL import Image

    arrays, colours = {}, {}
    for split, count in (("train", 20), ("test", 5)):
        files = []
        colours[split] = np.random.default_rng(count).integers(0, 256, (count, 3))
        for colour in colours[split]:
            file = io.BytesIO()
            Image.new("RGB", (32, 32), tuple(int(c) for c in colour)).save(file, "JPEG", quality=95)
            files.append(file.getvalue())
        arrays[f"{split}_jpeg"] = np.frombuffer(b"".join(files), "uint8")
        arrays[f"{split}_end"] = np.cumsum([len(f) for f in files])
        arrays[f"{split}_label"] = np.arange(count) % 10
    np.savez(tmp_path / "cifar.npz", **arrays)
    data = load_data("cifar10", tmp_path / "cifar.npz", validation=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 5), (
        "a tenth is set aside at most"
    )
    np.testing.assert_array_equal(data.test.labels, np.arange(5))
    np.testing.assert_allclose(data.test.images[:, 16, 16].astype(int), colours["test"], atol=4)


@pytest.mark.slow
def test_cifar10():
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not there: TFDS_DATA_DIR names no folder that holds it")
    data = load_data("cifar10", validation=1000)
    assert (len(data.train), len(data.validation), len(data.test)) == (49_000, 1000, 10_000)
    assert data.test.images.shape == (10_000, 32, 32, 3) and data.test.images.dtype == "uint8"
    np.testing.assert_array_equal(np.bincount(data.test.labels), [1000] * 10)
    assert len(data.classes) == 10
