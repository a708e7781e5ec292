"""Images in files are read batch by batch, once for all networks, and kept if asked (row B9)."""

import os
import threading
from collections import Counter

import helpers
import keras
import numpy as np
import pytest
from PIL import Image

from keras_dynnets import cnsn
from keras_dynnets.core import photos
from keras_dynnets.core.images import first
from keras_dynnets.data import Batches, InOrder, Split, cached, load_data
from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.training import evaluate, train
from keras_dynnets.training.data import image_cache, image_files
from keras_dynnets.training.data.image_cache import ImageCache
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.training.recipe import Recipe

SIZE = 8


@pytest.fixture
def files(tmp_path):
    """40 images of 8 x 8 in files, of two classes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(helpers.images(40, SIZE).astype("uint8")):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    paths = sorted(folder.iterdir())
    return Split(ImageFiles(paths, SIZE), np.arange(40, dtype="int32") % 2)


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read, and how many arrays of them were held at once."""
    names, lock = [], threading.Lock()

    def noted(path, size, channels=3):
        with lock:
            names.append(os.path.basename(path))
        return photos.read_image(path, size, channels)

    for module in (image_files, image_cache):
        monkeypatch.setattr(module, "read_image", noted)
    return names


def network(outputs=2):
    x = inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, name="first", activation="relu")(x)
    x = keras.layers.Conv2D(4, 3, name="second", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(outputs)(x))


def test_an_evaluation_reads_each_file_once_and_holds_two_batches(files, reads, monkeypatch):
    """B9: what is read and not yet run never exceeds two batches."""
    model, ahead = network(), []
    predict = model.predict

    def noted(images, *args, **kwargs):
        ahead.append(len(reads))
        assert len(images) <= 4
        return predict(images, *args, **kwargs)

    monkeypatch.setattr(model, "predict", noted)
    done = []
    results = evaluate(model, files, batch_size=4, progress=done.append)
    assert sorted(reads) == [f"{i:02}.png" for i in range(40)]
    assert len(ahead) == 10 and all(n <= 4 * (i + 2) for i, n in enumerate(ahead))
    assert done == [*range(4, 41, 4)]
    monkeypatch.undo()
    in_memory = Split(np.asarray(files.images), files.labels)
    assert results == evaluate(model, in_memory)


def test_networks_inside_another_are_evaluated_on_the_same_reading(files, reads):
    """B9: a network with detachable ones decodes each image once, not once for each of them."""
    model = cnsn.detachable(network(), ["first"])
    assert len(model.names) == 2
    results = evaluate(model, files, batch_size=16)
    assert sorted(reads) == [f"{i:02}.png" for i in range(40)]
    for i, name in enumerate(model.names):
        alone = evaluate(model.detach(i), files)["accuracy"]
        assert results["sub_models"][name] == alone


def test_validation_in_a_training_is_read_batch_by_batch(files, reads):
    """B9: `fit` never asks for all validation images at once."""
    sizes = []
    whole = ImageFiles.__array__
    held_out = InOrder(files, 16)
    assert [len(held_out[i][0]) for i in range(len(held_out))] == [16, 16, 8]
    for i in range(len(held_out)):
        images, labels = held_out[i]
        rows = slice(16 * i, 16 * i + 16)
        np.testing.assert_array_equal(images, files.images[rows])
        np.testing.assert_array_equal(labels, files.labels[rows])
        sizes.append(len(images))
    assert sum(sizes) == 40 and whole is ImageFiles.__array__
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFiles, "__array__", None)  # would be called for all images at once
        history = model.fit(
            Batches(files, 8, flip=False, translate=0), validation_data=held_out, verbose=0
        )
    assert history.history["val_accuracy"][0] == pytest.approx(
        evaluate(model, files)["accuracy"], abs=1e-6
    )


def test_all_batches_of_a_small_set_are_seen_by_default(files):
    assert len(InOrder(files)) == 1 and len(InOrder(load_data("digits").test)) == 1


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_images_are_kept_once_they_were_read(files, reads, tmp_path, place):
    """B9: a second epoch reads no file; a file that has changed is read again."""
    cache = ImageCache(tmp_path / "kept" if place == "disk" else None)
    kept = files.images.cached(cache)
    first = kept[:]
    assert len(reads) == 40
    np.testing.assert_array_equal(kept[:], first)
    np.testing.assert_array_equal(kept.subset(slice(3, 5))[:], first[3:5])
    assert len(reads) == 40
    np.testing.assert_array_equal(first, np.asarray(files.images))
    reads.clear()
    # The same number of bytes, changed a moment later.
    path = files.images.paths[7]
    content = path.read_bytes()
    found = path.stat()
    path.write_bytes(files.images.paths[8].read_bytes().ljust(len(content), b"\0")[: len(content)])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1000))
    try:
        changed = kept[7]
    except ValueError:  # cut: it is read all the same
        changed = None
    assert reads == ["07.png"] and (changed is None or (changed != first[7]).any())
    # Other sizes and channels are other images.
    gray = ImageFiles(files.images.paths[:2], 5, 1, cache)
    assert gray[:].shape == (2, 5, 5, 1) and len(reads) == 3


def test_a_folder_of_kept_images_survives_an_interruption(files, reads, tmp_path, monkeypatch):
    """B9: what was half written is not used, and what is damaged is read again."""
    folder = tmp_path / "kept"
    kept = files.images.cached(ImageCache(folder))
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        kept[0]
    monkeypatch.undo()
    assert not [path for path in folder.rglob("*") if path.is_file()]
    first = kept[:4]
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    again = files.images.cached(ImageCache(folder))
    np.testing.assert_array_equal(again[:4], first)
    with pytest.raises(ValueError, match="missing.png cannot be read as an image"):
        ImageFiles([tmp_path / "missing.png"], 8, cache=ImageCache(folder))[0]


def test_a_kept_image_is_not_changed_by_augmentation(files):
    """B9: mirrored and moved copies do not find their way into the cache."""
    kept = files.images.cached(ImageCache())
    before = kept[:]
    batches = Batches(Split(kept, files.labels), 8, translate=2)
    for i in range(len(batches)):
        batches[i]
    np.testing.assert_array_equal(kept[:], before)


def test_a_recipe_says_whether_images_are_kept(tmp_path):
    """B9: `cache` is a field of a recipe; it does not make a run another one."""
    fields = dict(
        entry="resnet20",
        data="x",
        epochs=1,
        batch_size=4,
        learning_rate=0.1,
        warmup_epochs=0,
        weight_decay=0,
    )
    plain, disk = Recipe(**fields), Recipe(**fields, cache="disk")
    assert plain.cache == "none" and plain.trains_like(disk)
    with pytest.raises(ValueError, match="'none', 'memory' or 'disk'"):
        Recipe(**fields, cache="tape")
    digits = load_data("digits")
    assert cached(digits, "none") is digits
    assert cached(digits, "memory").train.images is digits.train.images


def test_every_way_in_takes_images_that_are_no_squares(tmp_path):
    """B4: height and width may differ, in reading, loading and batches."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(10):
                Image.new("RGB", (50, 40), (9 * i, 0, 0)).save(folder / f"{i}.png")
    data = load_data("photos", tmp_path, image_size=(12, 20))
    assert data.test.images.shape == (20, 12, 20, 3)
    assert Batches(data.train, 4, resized_crop=True)[0][0].shape == (4, 12, 20, 3)
    assert InOrder(data.test, 7)[2][0].shape == (6, 12, 20, 3)


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_a_training_by_a_recipe_never_holds_all_validation_or_test_images(
    tmp_path, reads, monkeypatch, cache
):
    """B9: `train` reads batch by batch; with a cache on disk, each file once
    in all epochs and once by the check before them."""
    for split, count in (("train", 22), ("test", 10)):
        for name in ("a", "b"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i, image in enumerate(helpers.images(count, 16).astype("uint8")):
                Image.fromarray(image).save(folder / f"{split}-{name}-{i}.png")
    recipe = Recipe(
        entry="resnet20",
        data="photos",
        image_size=16,
        epochs=2,
        batch_size=10,
        learning_rate=0.01,
        warmup_epochs=0,
        weight_decay=0,
        label_smoothing=0.1,
        cache=cache,
    )
    monkeypatch.setattr(ImageFiles, "__array__", None)  # would be called for all images at once
    of_the_user = tmp_path / "run" / "cache" / "notes.txt"
    of_the_user.parent.mkdir(parents=True)
    of_the_user.write_text("mine")
    results = train(recipe, tmp_path / "run", tmp_path / "photos", verbose=0)
    assert (results["test"]["images"], results["validation"]["images"]) == (20, 4)
    times = Counter(reads)
    tested = [times[f"test-{name}-{i}.png"] for name in "ab" for i in range(10)]
    assert tested == [2] * 20  # once by the check before the training, once by the evaluation
    if cache == "disk":
        assert {*times.values()} == {2} and len(times) == 64
    else:
        assert max(times.values()) > 2
    assert of_the_user.is_file() and not (tmp_path / "run" / ".image-cache").exists()


def test_other_families_read_their_training_images_in_parts(files, monkeypatch):
    """B9: ranking and calibrating a network by levels holds some images at a time."""
    monkeypatch.setattr(ImageFiles, "__array__", None)
    read = ImageFiles.__getitem__
    sizes = []

    def noted(self, rows):
        found = read(self, rows)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(ImageFiles, "__getitem__", noted)
    np.testing.assert_array_equal(
        complexity(files.images, chunk=16), complexity(np.concatenate([files.images[:40]]))
    )
    assert max(sizes[:3]) == 16 and sum(sizes[:3]) == 40
    assert isinstance(first(files.images, 5), ImageFiles) and len(first(files.images, 5)) == 5
