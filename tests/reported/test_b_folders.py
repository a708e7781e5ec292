"""Section B: folders of images, how they are listed, split and checked."""

import io
import json
import os
import shutil

import helpers
import keras
import numpy as np
import pytest
from PIL import Image

from keras_dynnets import zoo
from keras_dynnets.cli.train import _usual
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.training import (
    FolderWarning,
    Recipe,
    check_folder,
    evaluate,
    load_data,
    run_data,
    train,
)
from keras_dynnets.training.class_weights import weights_of_classes
from keras_dynnets.training.data.drawing import drawn_by_class
from keras_dynnets.training.data.folders import image_suffixes
from keras_dynnets.training.data.identity import data_record
from keras_dynnets.zoo import Entry

COLOURS = {"ants": (200, 40, 40), "bees": (40, 40, 200)}


def photo(path, seed=0, colour=(90, 90, 90)):
    """Writes a small image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 30, (16, 16, 3))
    image = Image.fromarray(np.clip(colour + noise, 0, 255).astype("uint8"))
    image.save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def photos(folder, counts=(8, 8), start=0):
    """Makes the folders of the classes ants and bees with so many images."""
    for label, (name, count) in enumerate(zip(COLOURS, counts, strict=True)):
        for i in range(count):
            place = folder / name / f"{i}.png"
            photo(place, 1000 * label + start + i, COLOURS[name])
    return folder


def truncated(path):
    photo(path, 77)
    path.write_bytes(path.read_bytes()[:-120])
    return path


def names_of(split, root):
    return sorted(os.path.relpath(path, root) for path in split.images.paths)


# ---- B6: what is no image


def test_what_file_managers_and_archives_leave_is_ignored(tmp_path):
    """B6: hidden files, `.ipynb_checkpoints`, `__MACOSX`, `._0.png`, a folder called album.jpg."""
    root = tmp_path / "photos"
    photos(root / "train", (3, 3))
    photos(root / "test", (2, 2))
    expected = [
        names_of(load_data("p", root).train, root),
        names_of(load_data("p", root).test, root),
    ]
    for split in ("train", "test"):
        photo(root / split / ".ipynb_checkpoints" / "0.png", 1)
        photo(root / split / "__MACOSX" / "ants" / "._0.jpg", 2)
        for name in (".ipynb_checkpoints/0-checkpoint.png", "._0.png", ".hidden.jpg"):
            photo(root / split / "ants" / name, 3)
        photo(root / split / "ants" / "__MACOSX" / "1.png", 4)
        (root / split / "ants" / "empty.jpg").mkdir()
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
            (root / split / "bees" / name).write_bytes(b"x")
    photo(root / "__MACOSX" / "train" / "ants" / "0.png", 5)
    data = load_data("p", root)
    assert [names_of(data.train, root), names_of(data.test, root)] == expected
    assert check_folder(root).left_out == ""
    photo(root / "train" / "ants" / "album.jpg" / "in_it.png", 6)
    inside = os.path.join("train", "ants", "album.jpg", "in_it.png")
    assert names_of(load_data("p", root).train, root) == sorted([*expected[0], inside])


# ---- B7: the world's files


def test_links_are_followed_once(tmp_path):
    """B7: a linked class, a linked sub-folder, linked files, and links that lead in a circle."""
    root = tmp_path / "photos"
    photos(root / "train", (3, 3))
    photo(tmp_path / "elsewhere" / "more" / "a.png", 500)
    photo(tmp_path / "elsewhere" / "b.png", 501)
    photo(tmp_path / "wasps" / "0.png", 502)
    photo(tmp_path / "wasps" / "1.png", 503)
    (root / "train" / "ants" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "ants" / "circle").symlink_to(root / "train" / "ants")
    (root / "train" / "ants" / "above").symlink_to(root)
    (tmp_path / "elsewhere" / "more" / "circle").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "wasps").symlink_to(tmp_path / "wasps")
    (root / "train" / "bees" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (root / "train" / "bees" / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    report = check_folder(root)
    counts = {
        name: sum(report.images[part][name] for part in report.images) for name in report.classes
    }
    assert counts == {"ants": 5, "bees": 4, "wasps": 2}
    assert report.left_out == "1 broken link" and not report.unreadable


def test_every_suffix_that_pillow_reads_is_read(tmp_path):
    """B7: `.tif .avif .jfif .jpe .mpo`; what is left out is counted with its kind."""
    root = photos(tmp_path / "photos", (3, 3))
    for i, suffix in enumerate((".tif", ".jfif", ".jpe", ".mpo", ".JPG", ".ppm")):
        photo(root / "ants" / f"more{i}{suffix}", 600 + i)
    for name in ("notes.txt", "more.TXT", "shot.heic", "film.mpg", "README"):
        (root / "bees" / name).write_bytes(b"x")
    photo(root / "stray.png", 620)
    report = check_folder(root)
    assert sum(report.images[part]["ants"] for part in report.images) == 9
    assert report.left_out == (
        "5 files of another kind (.txt 2, .heic 1, .mpg 1, without a suffix 1); "
        "1 image outside a class folder"
    )
    assert {".jpg", ".png", ".webp", ".tiff", ".gif", ".bmp"} <= image_suffixes()
    assert not {".pdf", ".mpg", ".h5", ".eps", ".txt"} & image_suffixes()
    with pytest.raises(ValueError, match=r"wasps \(it holds .heic 1\) holds no image"):
        (root / "wasps").mkdir()
        (root / "wasps" / "shot.heic").write_bytes(b"x")
        load_data("p", root)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
def test_validation_images_in_a_folder_of_their_own(tmp_path, name):
    """B7: `valid/`, and val/ beside test/."""
    root = tmp_path / "photos"
    for part, start in (("Train", 0), (name, 50), ("test", 70)):
        photos(root / part, (4, 4), start)
    data = load_data("p", root)
    sizes = [len(split) for split in (data.train, data.validation, data.test)]
    assert sizes == [8, 8, 8]
    assert all(p.parts[-3] == name for p in data.validation.images.paths)
    assert all(p.parts[-3] == "test" for p in data.test.images.paths)
    shutil.rmtree(root / "test")  # then these are the images to report on
    data = load_data("p", root)
    assert all(p.parts[-3] == name for p in data.test.images.paths)
    assert len(data.train) + len(data.validation) == 8
    photos(root / ("val" if name != "val" else "valid"), (4, 4))
    with pytest.raises(
        ValueError, match=r"photos/\w+ and .*photos/\w+ would all be the validation"
    ):
        load_data("p", root)


def test_folders_of_classes_without_train(tmp_path):
    """B7: `photos/ants`, `photos/bees`, as for `image_dataset_from_directory`."""
    root = photos(tmp_path / "photos", (12, 12))
    data = load_data("p", root)
    assert data.classes == ("ants", "bees")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 2, 4]
    assert [np.bincount(s.labels).tolist() for s in (data.train, data.validation, data.test)] == [
        [9, 9],
        [1, 1],
        [2, 2],
    ]
    assert data_record(data, root).drawn and set(data_record(data, root).images) == {"ants", "bees"}
    with pytest.raises(ValueError, match="holds no folders of classes, but .*photos holds train"):
        photos(tmp_path / "up" / "photos" / "train")
        load_data("p", tmp_path / "up")
    with pytest.raises(ValueError, match="holds the folder of one class, inner"):
        photos(tmp_path / "deep" / "inner")
        load_data("p", tmp_path / "deep")
    vehicles = tmp_path / "vehicles"
    for i, name in enumerate(("train", "car", "ship")):
        for j in range(3):
            photo(vehicles / name / f"{j}.png", 10 * i + j)
    assert load_data("p", vehicles).classes == ("car", "ship", "train")


def test_a_folder_of_prepared_data_sets_is_no_folder_of_photos(tmp_path, monkeypatch):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{}")
    photo(tmp_path / "downloads" / "extracted" / "0.png")
    with pytest.raises(ValueError, match="holds no images in folders of classes, such as train/"):
        load_data("photos", tmp_path)
    with pytest.raises(ValueError, match="holds no images in folders of classes; make a folder"):
        check_folder(tmp_path)
    shutil.rmtree(tmp_path / "mnist")  # images beside it are no photos of the user's
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert load_data("digits").classes == tuple("0123456789")


def test_parts_with_other_classes_and_empty_classes(tmp_path):
    """B7: one line that names what each lacks."""
    root = tmp_path / "photos"
    photos(root / "train")
    photos(root / "test", (2, 2))
    (root / "train" / "wasps").mkdir()
    (root / "train" / "flies").mkdir()
    with pytest.raises(ValueError, match=r"train/flies, .*train/wasps hold no image"):
        load_data("p", root)
    photo(root / "train" / "wasps" / "0.png")
    (root / "train" / "flies").rmdir()
    shutil.rmtree(root / "test" / "ants")
    with pytest.raises(ValueError, match="each class: .*test lacks ants, wasps$"):
        load_data("p", root)
    (root / "test" / "ants").mkdir()
    with pytest.raises(ValueError, match="test/ants holds no image"):
        load_data("p", root)


# ---- B10: splits


def test_a_small_class_is_in_every_part(tmp_path):
    """B10: 303 images of one class, 3 of the other, no test/: stratified, and a warning."""
    labels = np.array([0] * 303 + [1] * 3)
    for seed in range(5):
        parts = drawn_by_class(labels, ["a", "b"], 2000, np.random.default_rng(seed), True)
        counts = [np.bincount(labels[rows], minlength=2).tolist() for rows in parts]
        assert counts == [[227, 1], [25, 1], [51, 1]]
        assert sorted(np.concatenate(parts)) == list(range(306))
    report = check_folder(photos(tmp_path / "photos", (40, 3)))
    assert [report.images[part]["bees"] for part in ("train", "validation", "test")] == [1, 1, 1]
    assert any("40 images of ants and 3 of bees" in line for line in report.warnings)
    assert any("balanced" in line for line in report.warnings)


def test_parts_are_of_the_sizes_asked_for_and_repeat():
    """B10: the rule, on classes of many sizes."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat(np.arange(7), [2, 3, 5, 8, 100, 233, 649]))
    names = [str(i) for i in range(7)]
    parts = drawn_by_class(labels, names, 50, np.random.default_rng(1), True)
    again = drawn_by_class(labels, names, 50, np.random.default_rng(1), True)
    for rows, others in zip(parts, again, strict=True):
        np.testing.assert_array_equal(rows, others)
    train_counts, validation, test = (np.bincount(labels[rows], minlength=7) for rows in parts)
    assert 166 <= test.sum() <= 169 and 50 <= validation.sum() <= 53
    assert (test >= 1).all() and (train_counts >= 1).all() and (validation[1:] >= 1).all()
    np.testing.assert_allclose(test[3:] / np.bincount(labels)[3:], 1 / 6, atol=0.05)
    none = drawn_by_class(labels, names, None, np.random.default_rng(1), False)
    assert [len(rows) for rows in none] == [1000, 0, 0]


def test_a_class_that_cannot_be_split_is_refused(tmp_path):
    """B10: it says what to do; beside test/ a class of one image is trained on, with a warning."""
    root = photos(tmp_path / "photos", (9, 1))
    with pytest.raises(
        ValueError, match="one image is not enough .*: bees; give such a class more"
    ):
        load_data("p", root)
    photos(tmp_path / "both" / "train", (30, 1))
    photos(tmp_path / "both" / "test", (2, 2), 50)
    assert "no validation image of bees" in check_folder(tmp_path / "both").warnings


def test_data_sets_that_are_no_folders_are_split_as_before():
    """Published weights were trained on these splits."""
    data = load_data("digits", seed=3)
    rng = np.random.default_rng(3)
    order = rng.permutation(1797)
    held_out, rest = order[:299], order[299:]
    rest = rest[rng.permutation(1498)]
    from sklearn.datasets import load_digits

    target = load_digits().target
    np.testing.assert_array_equal(data.test.labels, target[held_out])
    np.testing.assert_array_equal(data.validation.labels, target[rest[:149]])
    np.testing.assert_array_equal(data.train.labels, target[rest[149:]])


# ---- the check of a folder


def test_check_finds_everything_at_once(tmp_path, command):
    """A6: all bad files at once, one line each; duplicates, counts and imbalance."""
    root = tmp_path / "photos"
    photos(root / "train", (10, 10))
    photos(root / "test", (3, 3), 50)
    code, output = command("check", root)
    assert code == 0 and "every image was decoded" in output.out
    truncated(root / "train" / "ants" / "cut.jpg")
    (root / "test" / "bees" / "text.png").write_text("no image")
    (root / "train" / "bees" / "empty.jpg").write_bytes(b"")
    shutil.copy(root / "train" / "ants" / "3.png", root / "test" / "ants" / "same.png")
    shutil.copy(root / "train" / "bees" / "4.png", root / "train" / "ants" / "bee.png")
    report = check_folder(root)
    assert list(report.unreadable) == [
        "test/bees/text.png",
        "train/ants/cut.jpg",
        "train/bees/empty.jpg",
    ]
    assert "truncated" in report.unreadable["train/ants/cut.jpg"].lower()
    assert report.images["test"] == {"ants": 4, "bees": 4} and report.total == 31
    assert [set(group) for group in report.shared if "test/ants/same.png" in group] == [
        {"train/ants/3.png", "test/ants/same.png"}
    ]
    assert [{*group} for group in report.contradicting] == [
        {"train/ants/bee.png", "train/bees/4.png"}
    ]
    code, output = command("check", root)
    assert code == 1
    for text in ("3 of the files cannot be read:", "  train/ants/cut.jpg: ", "train/ants/3.png = "):
        assert text in output.out
    code, output = command("check", root, "--json")
    assert code == 1 and json.loads(output.out)["unreadable"] == dict(report.unreadable)
    code, output = command("check", tmp_path / "nope")
    assert code == 2 and "nope is not a folder" in output.err


# ---- training on a folder


def flat(num_classes, input_shape, name=None):
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.AveragePooling2D(4)(x)
    x = keras.layers.Dense(num_classes, name="logits")(keras.layers.Flatten()(x))
    return keras.Model(inputs, x, name=name)


RECIPE = Recipe(
    entry="flat",
    data="photos",
    epochs=1,
    batch_size=12,
    learning_rate=0.01,
    warmup_epochs=0,
    weight_decay=0.0,
    flip=False,
    translate=0,
)


@pytest.fixture
def flat_entry(monkeypatch):
    monkeypatch.setitem(ENTRIES, "flat", Entry("flat", "baseline", flat, (16, 16, 3), 10))


def test_bad_files_end_a_training_before_it_begins(flat_entry, tmp_path, command, monkeypatch):
    """A6: all of them in one error; the same command works once they are gone, or skipped."""
    root = photos(tmp_path / "photos", (14, 14))
    photos(root / "test", (3, 3), 50)
    for name in COLOURS:
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
    truncated(root / "train" / "ants" / "cut.jpg")
    (root / "test" / "bees" / "text.png").write_text("no image")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="2 of the 36 images in photos cannot be read") as error:
        train(RECIPE, "runs/photos", "photos", verbose=0)
    for line in ("\n  train/ants/cut.jpg: ", "\n  test/bees/text.png: ", "--skip-bad"):
        assert line in str(error.value)
    assert not (tmp_path / "runs").exists()
    with pytest.warns(FolderWarning, match=r"going on without (.*\n)+.*train/ants/cut.jpg"):
        results = train(RECIPE, "runs/photos", "photos", verbose=0, skip_bad=True)
    assert results["test"]["images"] == 6
    assert zoo.read_run("runs/photos").data.skipped == ("test/bees/text.png", "train/ants/cut.jpg")
    with open(root / "train" / "ants" / "cut.jpg", "wb") as file:  # another bad file
        file.write(b"x")
    (root / "test" / "bees" / "text.png").unlink()
    code, output = command("evaluate", "runs/photos")
    assert code == 0 and json.loads(output.out) == results["test"] and "warning" not in output.err
    assert train(RECIPE, "runs/photos", "photos") == results  # it is the same run
    (tmp_path / "runs" / "photos" / "results.json").unlink()  # as if it had been stopped
    assert train(RECIPE, "runs/photos", "photos", verbose=0)["test"]["images"] == 6
    (root / "train" / "ants" / "cut.jpg").unlink()
    again = train(RECIPE, "runs/again", "photos", verbose=0)
    assert again["test"] == results["test"]  # split as without the bad files


def test_the_command_line_skips_bad_files(flat_entry, tmp_path, command, monkeypatch):
    """A6: `--skip-bad` says what it leaves out; figures by class and the confusion matrix."""
    photos(tmp_path / "photos", (20, 16))
    truncated(tmp_path / "photos" / "ants" / "cut.jpg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(RECIPE.model_dump_json())
    arguments = (
        "train",
        "flat",
        "--data",
        "photos",
        "--data-dir",
        "photos",
        "--recipe",
        "own.yaml",
    )
    code, output = command(*arguments)
    assert code == 2 and "ants/cut.jpg: " in output.err and not (tmp_path / "runs").exists()
    code, output = command(*arguments, "--skip-bad", "--class-weights", "balanced")
    assert code == 0 and "ants/cut.jpg: " in output.err and "going on without" in output.err
    assert zoo.read_run("runs/flat-photos").recipe["class_weights"] == "balanced"
    code, output = command("evaluate", "runs/flat-photos", "--plots", "plots")
    found = json.loads(output.out)
    assert code == 0 and {*found["by_class"]} == {*COLOURS}
    assert sum(map(sum, found["confusion"])) == found["images"]
    assert (tmp_path / "plots" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    code, output = command("train", "flat", "--class-weights", "heavy")
    assert code == 2


def test_a_run_of_an_earlier_version_keeps_its_own_split(flat_entry, tmp_path):
    """B10: its test images were drawn at random, and are never those of the new rule."""
    root = photos(tmp_path / "photos" / "train", (30, 10)).parent
    photos(root / "valid", (2, 2), 70)  # which earlier versions did not read
    old = load_data("photos", root, 2000, 5, 16, split_rule="at random")
    new = load_data("photos", root, 2000, 5, 16)
    assert names_of(old.test, root) != names_of(new.test, root)
    record = data_record(old, root).model_dump()
    del record["split_rule"], record["skipped"]
    recipe = RECIPE.model_copy(update={"seed": 5})
    run = {"entry": "flat", "input_shape": (16, 16, 3), "classes": old.classes, "seed": 5}
    folder = tmp_path / "run"
    folder.mkdir()
    text = json.dumps({**run, "recipe": recipe.model_dump(), "data": record})
    (folder / "run.json").write_text(text)
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    loaded = run_data(folder)
    for part in ("train", "validation", "test"):
        assert names_of(getattr(loaded, part), root) == names_of(getattr(old, part), root)


def test_evaluate_takes_a_folder_of_test_images_alone(flat_entry, tmp_path, command, monkeypatch):
    """Point 3: with a run, which knows its classes; some classes may be missing."""
    photos(tmp_path / "photos", (20, 20))
    monkeypatch.chdir(tmp_path)
    train(RECIPE, "run", "photos", verbose=0)
    photos(tmp_path / "new" / "test", (3, 4), 90)
    code, output = command("evaluate", "run", "--data-dir", "new")
    found = json.loads(output.out)
    assert code == 0 and found["images"] == 7 and output.err == "7 test images of new: test/\n"
    assert (
        found["accuracy"]
        == evaluate(zoo.load("run"), load_data("p", "new", image_size=16).test)["accuracy"]
    )
    shutil.rmtree(tmp_path / "new" / "test" / "ants")
    code, output = command("evaluate", "run", "--data-dir", "new", "--json")
    found = json.loads(output.out)
    assert found["by_class"]["ants"]["images"] == 0
    assert found["confusion"][0] == [0, 0] and sum(found["confusion"][1]) == 4
    with pytest.raises(ValueError, match="holds test images alone"):
        train(RECIPE, "other", "new")
    (tmp_path / "new" / "test" / "bees").rename(tmp_path / "new" / "test" / "wasps")
    code, output = command("evaluate", "run", "--data-dir", "new")
    assert code == 2 and "tell ants, bees apart" in output.err and "wasps" in output.err


def test_evaluate_says_what_it_evaluates(flat_entry, tmp_path, command, monkeypatch):
    """A6: unreadable files are listed at once; what was left out of another folder is not."""
    root = tmp_path / "photos"
    photos(root, (20, 20))
    photo(root / "bees" / "notes.txt.png").rename(root / "bees" / "notes.txt")
    (root / "ants" / "0.png").write_text("no image")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(FolderWarning):
        train(RECIPE, "run", "photos", verbose=0, skip_bad=True)
    code, output = command("evaluate", "run")
    assert code == 0 and "6 test images of" in output.err
    assert "drawn from the train images, by class" in output.err
    assert "1 file of another kind (.txt 1); 1 file that could not be read" in output.err
    photos(tmp_path / "new" / "test", (3, 4), 90)
    for name in ("ants/1.png", "bees/2.png"):
        (tmp_path / "new" / "test" / name).write_text("no image")
    arguments = ("evaluate", "run", "--data-dir", "new")
    code, output = command(*arguments)
    lines = output.err.splitlines()
    assert code == 2 and output.out == "" and "2 of the 7 test images" in output.err
    assert [line.split(":")[0] for line in lines[-2:]] == ["  test/ants/1.png", "  test/bees/2.png"]
    code, output = command(*arguments, "--skip-bad")
    assert code == 0 and json.loads(output.out)["images"] == 5
    for name in ("ants/0.png", "ants/1.png", "bees/2.png"):  # the first was left out of the run
        photo(tmp_path / "new" / "test" / name, 4)
    code, output = command(*arguments)
    assert code == 0 and json.loads(output.out)["images"] == 7
    assert "could not be read" not in output.err
    root.rename(tmp_path / "moved")
    code, output = command("evaluate", "run", "--data-dir", "moved")
    assert code == 0 and json.loads(output.out)["images"] == 6  # its own folder at another place


def test_a_flat_folder_is_wholly_the_test_of_a_model_from_elsewhere(tmp_path, command, monkeypatch):
    """A6: nothing of it was trained on."""
    photos(tmp_path / "photos", (5, 6))
    flat(2, (16, 16, 3)).save(tmp_path / "own.keras")
    monkeypatch.chdir(tmp_path)
    arguments = ("--data", "photos", "--data-dir", "photos")
    code, output = command("evaluate", "own.keras", *arguments)
    assert code == 0 and json.loads(output.out)["images"] == 11
    assert output.err == "11 test images of photos: the folders of the classes\n"
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()]).save(
        "open.keras"
    )
    code, output = command("evaluate", "open.keras", *arguments)
    assert code == 2 and "open.keras takes images of any size" in output.err


def test_pictures_beside_data_sets_are_no_data_set(tmp_path, monkeypatch):
    """B10: `--data cifar10 --data-dir /data`, where folders in /data hold pictures."""
    photos(tmp_path)
    monkeypatch.setattr("tensorflow_datasets.list_builders", lambda: ["cifar10"])
    monkeypatch.setattr("tensorflow_datasets.builder", lambda *_, **__: pytest.fail("downloads"))
    with pytest.raises(ValueError, match=r"no cifar10 prepared .*\(--data photos\)"):
        load_data("cifar10", tmp_path)
    assert load_data("digits", tmp_path).classes == tuple("0123456789")
    assert load_data("photos", tmp_path).classes == tuple(COLOURS)
    assert (_usual(str(tmp_path)), _usual(None)) == ("photos", "cifar10")  # of `evaluate`
    for name in COLOURS:
        (tmp_path / "cifar10" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / name).rename(tmp_path / "cifar10" / "train" / name)
    assert load_data("cifar10", tmp_path / "cifar10").classes == tuple(COLOURS)
    assert check_folder(tmp_path / "cifar10" / "train").total == 16
    (tmp_path / "cifar10" / "train").rename(tmp_path / "digits")
    assert check_folder(tmp_path / "digits").total == 16


def test_another_recipe_is_refused_before_the_images_are_decoded(tmp_path, flat_entry, monkeypatch):
    """A6: the check of many photos takes minutes."""
    photos(tmp_path / "photos", (20, 20))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text(RECIPE.model_dump_json())
    monkeypatch.setattr(
        "keras_dynnets.training.recipe_images.check_data", lambda data: pytest.fail("decoded")
    )
    other = RECIPE.model_copy(update={"epochs": 9})
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        train(other, tmp_path / "run", tmp_path / "photos")


def test_a_run_of_many_classes_records_no_confusion_matrix(tmp_path, flat_entry, monkeypatch):
    """B10: with a thousand classes it has a million numbers."""
    photos(tmp_path / "photos", (20, 20))
    monkeypatch.setattr("keras_dynnets.training.run.MATRIX", 1)
    results = train(RECIPE, tmp_path / "run", tmp_path / "photos", verbose=0)
    assert "by_class" in results["test"] and "confusion" not in results["test"]
    recorded = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results == recorded == zoo.read_run(tmp_path / "run").results


# ---- class weights


def test_balanced_weights():
    """B10: every class counts alike, an image 1 in the mean."""
    weights = weights_of_classes("balanced", np.array([0] * 303 + [1] * 3), ["a", "b"])
    assert weights[0] * 303 == pytest.approx(weights[1] * 3) == pytest.approx(153)
    assert weights_of_classes({"b": 4}, np.array([0, 1]), ["a", "b"]) == {0: 1.0, 1: 4.0}
    with pytest.raises(ValueError, match="names c, and the classes are a, b"):
        weights_of_classes({"c": 4}, np.array([0, 1]), ["a", "b"])
    with pytest.raises(ValueError, match="class_weights"):
        Recipe(**{**RECIPE.model_dump(), "class_weights": {"a": -1}})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_of_a_recipe_are_in_the_loss(flat_entry, tmp_path, smoothing):
    """B10: the logged loss is the weighted one, also with one-hot labels."""
    root = photos(tmp_path / "photos" / "train", (20, 5)).parent
    photos(root / "val", (2, 2), 50)
    photos(root / "test", (2, 2), 60)
    fields = {"class_weights": "balanced", "label_smoothing": smoothing}
    fields |= {"learning_rate": 1e-9, "batch_size": 25}
    train(RECIPE.model_copy(update=fields), tmp_path / "run", root, verbose=0)
    data = run_data(tmp_path / "run").train
    logits = zoo.load(tmp_path / "run").predict(np.asarray(data.images, "float32"), verbose=0)
    wanted = np.eye(2)[data.labels] * (1 - smoothing) + smoothing / 2
    losses = keras.losses.CategoricalCrossentropy(from_logits=True, reduction=None)(wanted, logits)
    weighted = np.mean(np.array([25 / 40, 25 / 10])[data.labels] * np.asarray(losses))
    header, row = (tmp_path / "run" / "log.csv").read_text().splitlines()
    logged = float(dict(zip(header.split(","), row.split(","), strict=True))["loss"])
    assert logged == pytest.approx(weighted, rel=1e-4)
    assert abs(logged - np.mean(losses)) > 1e-3


@pytest.mark.parametrize("family", ["gates", "parts", "levels"])
def test_class_weights_work_in_every_family(family):
    """B10: the loss is linear in the weight of each class, so that every loss is weighted."""
    model = {
        "gates": lambda: helpers.tiny(2, gate_noise=0.0),
        "parts": lambda: helpers.detachable_parts(2, (16, 16, 3)),
        "levels": lambda: helpers.generated(classes=2),
    }[family]()
    model.compile(keras.optimizers.SGD(0.0), helpers.crossentropy(), jit_compile=False)
    x, y = helpers.images(8), np.array([0, 0, 0, 0, 0, 0, 1, 1])

    def loss(first, second):
        keras.utils.set_random_seed(1)
        found = model.train_on_batch(x, y, class_weight={0: first, 1: second}, return_dict=True)
        return float(found["loss"])

    both, ants, bees = loss(1, 1), loss(2, 1), loss(1, 2)
    assert ants > both + 1e-3 and bees > both + 1e-3
    assert loss(3, 5) == pytest.approx(both + 2 * (ants - both) + 4 * (bees - both), rel=1e-3)


def test_figures_by_class(tmp_path):
    """Point 3: recall, precision and number of images of every class."""
    from keras_dynnets.measure.by_class import (
        confusion_matrix,
        confusion_picture,
        figures_by_class,
    )

    matrix = confusion_matrix(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1]), 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    found = figures_by_class(matrix, ["a", "b", "c", "d"])
    assert found["a"] == {"images": 3, "recall": 2 / 3, "precision": 1.0}
    assert found["b"] == {"images": 2, "recall": 1.0, "precision": 0.5}
    assert found["c"] == {"images": 1, "recall": 0.0, "precision": None}
    assert found["d"] == {"images": 0, "recall": None, "precision": None}
    path = confusion_picture(matrix, list("abcd"), tmp_path / "new" / "c.png")
    picture = Image.open(io.BytesIO(path.read_bytes()))
    assert min(picture.size) > 300
    with pytest.raises(ValueError, match="lie between 0 and 1 for 2 classes"):
        confusion_matrix(np.array([0, 2]), np.array([0, 1]), 2)
