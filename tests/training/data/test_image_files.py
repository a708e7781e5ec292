"""Images in files, and the settings of the papers on such images."""

import os

import keras
import numpy as np
import pytest
from PIL import Image

from keras_dynnets.core.registry import find
from keras_dynnets.training import Batches, find_recipe, load_data, train
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.training.optimizer import StepDecay
from keras_dynnets.training.recipe import recipe_names
from keras_dynnets.training.recipe_images import recipe_data


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def made_up(folder, classes=3, each=8, size=16, held_out="val", seed=0):
    """Makes a folder of images whose colour shows the class: `each` of them for each class."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (classes, 3))
    for split, count in (("train", each), (held_out, max(1, each // 2))):
        for label in range(classes if split else 0):
            for i in range(count):
                noise = rng.normal(0, 10, (size, size, 3))
                image = np.clip(colours[label] + noise, 0, 255).astype("uint8")
                save(folder / split / f"class{label:04}" / f"{i}.jpg", image)
    return folder


def test_a_folder_of_images(tmp_path):
    data = load_data("mine", made_up(tmp_path), validation=4, image_size=20)
    assert data.classes == ("class0000", "class0001", "class0002")
    # at least one image of each class is set aside for validation
    assert (len(data.train), len(data.validation), len(data.test)) == (21, 3, 12)
    assert data.train.images.shape == (21, 20, 20, 3)
    everything = np.asarray(data.test.images)
    assert everything.shape == (12, 20, 20, 3) and everything.dtype == "uint8"
    colours = [everything[data.test.labels == i].mean((0, 1, 2)) for i in range(3)]
    np.testing.assert_array_equal(data.train.images[5], data.train.images[np.array([5])][0])
    for image, label in zip(np.asarray(data.train.images), data.train.labels, strict=True):
        assert np.abs(image.mean((0, 1)) - colours).sum(1).argmin() == label


def test_without_a_test_folder_a_sixth_is_held_out(tmp_path):
    data = load_data("mine", made_up(tmp_path, held_out=""), image_size=16, seed=3)
    paths = [set(s.images.paths) for s in (data.train, data.validation, data.test)]
    assert [len(p) for p in paths] == [17, 3, 4] and len(set.union(*paths)) == 24


def test_the_middle_is_read(tmp_path):
    image = np.zeros((256, 400, 3), "uint8")
    image[16:240, 88:312] = 200
    save(tmp_path / "a.png", image)
    files = ImageFiles([tmp_path / "a.png"], 224)
    np.testing.assert_array_equal(files[0], 200)
    save(tmp_path / "b.png", image[:224, :224])
    np.testing.assert_array_equal(ImageFiles([tmp_path / "b.png"], 224)[0], image[:224, :224])
    assert ImageFiles([tmp_path / "a.png"], 28, channels=1)[:].shape == (1, 28, 28, 1)


def test_random_parts(tmp_path):
    column, row = np.meshgrid(np.arange(100), np.arange(80))
    save(tmp_path / "a.png", np.stack([column, row, 0 * row], -1).astype("uint8"))
    files = ImageFiles([tmp_path / "a.png"], 16)
    parts = [files.cropped([0], np.random.default_rng(i))[0].astype(float) for i in range(200)]
    widths = np.array([np.ptp(p[..., 0]) for p in parts]) * 16 / 15
    heights = np.array([np.ptp(p[..., 1]) for p in parts]) * 16 / 15
    areas = widths * heights / 8000
    assert areas.min() < 0.15 and areas.max() > 0.85 and 0.4 < areas.mean() < 0.6
    small = areas < 0.4  # larger ones may be as wide or as high as the image
    assert (
        0.65 < (widths / heights)[small].min() < 0.85
        and 1.2 < (widths / heights)[small].max() < 1.5
    )
    np.testing.assert_array_equal(parts[0], files.cropped([0], np.random.default_rng(0))[0])


def test_batches_from_files_repeat(tmp_path):
    split = load_data("mine", made_up(tmp_path), image_size=16).train
    first, again = (Batches(split, 5, seed=1, resized_crop=True) for _ in range(2))
    for batches in (first, again):
        batches.start_epoch(2)
    for i in range(len(first)):
        for a, b in zip(first[i], again[i], strict=True):
            np.testing.assert_array_equal(a, b)
    assert first[0][0].shape == (5, 16, 16, 3) and (first[0][0] != first[1][0]).any()
    in_memory = load_data("digits").train
    with pytest.raises(ValueError, match="resized_crop needs images in files"):
        Batches(in_memory, 5, resized_crop=True)


def test_bad_folders(tmp_path):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(
        ValueError, match="train holds no folders; make a folder in it for each class"
    ):
        load_data("mine", tmp_path / "empty")
    (tmp_path / "bare" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="cat holds no image"):
        load_data("mine", tmp_path / "bare")
    folder = made_up(tmp_path / "other")
    (folder / "val" / "class0001").rename(folder / "val" / "dog")
    with pytest.raises(
        ValueError, match="one for each class: .*train lacks dog; .*val lacks class0001"
    ):
        load_data("mine", folder)
    bad = made_up(tmp_path / "bad", held_out="") / "train" / "class0000" / "0.jpg"
    bad.write_text("no image")
    with pytest.raises(ValueError, match="0.jpg cannot be read as an image"):
        np.asarray(load_data("mine", tmp_path / "bad").train.images)


def test_learning_rate_drops():
    schedule = StepDecay(0.4, 4, (10, 20))
    np.testing.assert_allclose(
        [schedule(s) for s in (0, 2, 4, 9, 10, 19, 20)],
        [0, 0.2, 0.4, 0.4, 0.04, 0.04, 0.004],
        rtol=1e-5,
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    np.testing.assert_allclose(copy(12), 0.04, rtol=1e-5)


CLASSES = {"imagenet": 1000, "tiny_imagenet": 200, "cifar100": 100, "cifar10": 10, "mnist": 10}


PAPERS = [name for name in recipe_names() if name.endswith("_paper")]
# One for each data set. KERAS_DYNNETS_ALL_RECIPES=1 runs all, which takes some minutes more.
QUICK = [
    "cnsn_vgg16_cifar10",
    "tissue_vgg16_cifar100",
    "tissue_lenet5_mnist",
    "tissue_resnet34_r_imagenet",
]
QUICK += ["tissue_vgg19_tiny_imagenet"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    PAPERS if os.environ.get("KERAS_DYNNETS_ALL_RECIPES") else [f"{name}_paper" for name in QUICK],
)
def test_the_papers_settings_train(name, tmp_path):
    recipe = find_recipe("any", "any", name)
    assert find(recipe.entry).num_classes in (CLASSES[recipe.data], 10)
    small = {"batch_size": 4, "epochs": 1, "image_size": 64 if recipe.data == "imagenet" else None}
    small |= {"train_images": 40} if recipe.train_images else {}
    recipe = recipe.model_copy(update=small)
    folder = made_up(
        tmp_path / "data", CLASSES[recipe.data], each=2 if CLASSES[recipe.data] > 10 else 10
    )
    assert len(recipe_data(recipe, folder).classes) == CLASSES[recipe.data]
    results = train(recipe, tmp_path / "run", folder, steps=2)
    assert (
        0 <= results["test"]["accuracy"] <= 1 and results["test"]["images"] >= CLASSES[recipe.data]
    )
