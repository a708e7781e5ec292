"""A run folder knows what was trained in it, in Python and on the command line."""

import json
import shutil

import helpers
import numpy as np
import pytest
from PIL import Image

from keras_dynnets import zoo
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.export import export_model
from keras_dynnets.training import ChangedDataWarning, Recipe, evaluate, load_data, run_data, train
from keras_dynnets.training.publishing import evaluate_again, publish
from keras_dynnets.zoo.weights import published

COLOURS = {"blue": (20, 20, 220), "green": (20, 220, 20), "red": (220, 20, 20)}
RECIPE = Recipe(
    entry="tiny",
    data="photos",
    epochs=1,
    batch_size=8,
    learning_rate=0.01,
    warmup_epochs=0,
    weight_decay=0.0,
    image_size=24,
    seed=1,
    options={"target_rate": 0.5},
)


def make_photos(folder, each=12, splits=("train",), size=20):
    rng = np.random.default_rng(0)
    for split in splits:
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(each):
                image = np.clip(colour + rng.normal(0, 30, (size, size, 3)), 0, 255)
                # the number of pixels makes the sizes of the files differ
                Image.fromarray(image.astype("uint8")).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `photos/`, which has no test images, and the finished run `runs/photos`."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENTRIES, "tiny", helpers.TINY_ENTRY)
        train(RECIPE, place / "runs" / "photos", make_photos(place / "photos"), verbose=0)
    return place


@pytest.fixture
def run(trained, tiny_entry):
    """The finished run, which a test must not change."""
    return trained / "runs" / "photos"


@pytest.fixture
def copy(trained, tiny_entry, tmp_path, monkeypatch):
    """A copy of run and photos, which a test may change; the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    described = tmp_path / "runs" / "photos" / "run.json"
    described.write_text(described.read_text().replace(str(trained), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results_of(run):
    return json.loads((run / "results.json").read_text())


# ---- loading


def test_a_run_folder_loads_with_nothing_else_given(run):
    model = zoo.load(run)
    assert model.class_names == ("blue", "green", "red")
    assert model.input_shape == (None, 24, 24, 3) and model.num_classes == 3
    assert model.target_rate == 0.5
    assert zoo.labels(str(run)) == ("blue", "green", "red")
    by_file = zoo.load("tiny", run / "model.weights.h5")
    assert by_file.class_names == model.class_names and by_file.target_rate == 0.5
    x = helpers.images(4, 24)
    np.testing.assert_array_equal(model.predict(x, verbose=0), by_file.predict(x, verbose=0))
    found = evaluate(model, run_data(run).test)
    assert found["accuracy"] == results_of(run)["test"]["accuracy"]


def test_what_is_given_goes_before_what_a_run_knows(run, caplog):
    model = zoo.load(run, num_classes=5, input_shape=(32, 32, 3), target_rate=0.8)
    assert model.num_classes == 5 and model.input_shape == (None, 32, 32, 3)
    assert model.target_rate == 0.8 and not hasattr(model, "class_names")
    assert "logits/kernel" in caplog.text
    untrained = zoo.load(run, weights=None)
    assert untrained.num_classes == 3 and not hasattr(untrained, "class_names")
    with pytest.raises(ValueError, match="holds weights of its own, so it takes no weights 'cifar"):
        zoo.load(run, weights="cifar10")


def test_what_is_no_run_folder(tiny_entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no run folder runs/nope"):
        zoo.load("runs/nope")
    (tmp_path / "tiny").mkdir()
    assert zoo.load("tiny", weights=None).name == "tiny"  # the name of a network is one
    with pytest.raises(FileNotFoundError, match="tiny holds no run"):
        zoo.load("./tiny")
    with pytest.raises(ValueError, match="no model 'resnet2'"):
        zoo.load("resnet2")


def test_an_unfinished_a_damaged_and_a_later_run(copy):
    run = copy / "runs" / "photos"
    (run / "model.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match="photos holds no finished run"):
        zoo.load("runs/photos")
    fields = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**fields, "version": 2}))
    with pytest.raises(ValueError, match="is of version 2, .*update keras_dynnets"):
        zoo.load("runs/photos")
    (run / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="run.json is not the description of a run: entry: Field"):
        zoo.load("runs/photos")


def test_a_run_of_an_earlier_version(copy, command):
    """It has `data.json` in place of `run.json`, and its test images were drawn at random."""
    run = copy / "runs" / "photos"
    shapes = {"train": [27, 24, 24, 3], "validation": [3, 24, 24, 3], "test": [6, 24, 24, 3]}
    (run / "data.json").write_text(json.dumps({"classes": list(COLOURS), **shapes}))
    (run / "run.json").unlink()
    assert zoo.load("runs/photos").class_names == tuple(COLOURS)
    code, output = command("evaluate", "runs/photos", "--data-dir", "photos")
    old = load_data("photos", "photos", seed=1, image_size=24, split_rule="at random").test
    expected = evaluate(zoo.load("runs/photos"), old, classes=[*COLOURS])
    assert code == 0 and json.loads(output.out) == expected
    assert train(RECIPE, run, "photos") == results_of(run)
    (copy / "photos" / "train" / "red" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"holds a run on other data.*27, 24.* then, \[27|then"):
        train(RECIPE, run, "photos")


# ---- evaluate


def test_evaluate_gives_the_results_of_the_training(run, command):
    """At the size of the recipe, with its options, on the images that its seed held out."""
    for arguments in ((run,), ("tiny", "--weights", run / "model.weights.h5")):
        code, output = command("evaluate", *arguments)
        assert code == 0 and json.loads(output.out) == results_of(run)["test"]


def test_the_held_out_images_are_those_of_the_run(run, trained):
    held_out = {*run_data(run).test.images.paths}
    others = load_data("photos", trained / "photos", seed=0, image_size=24).test.images.paths
    assert held_out == {
        *load_data("photos", trained / "photos", seed=1, image_size=24).test.images.paths
    }
    assert held_out != {*others}


def test_other_classes_are_refused_by_their_names(copy, command):
    names = {"red": "rojo", "green": "verde", "blue": "azul"}
    for old, new in names.items():
        (copy / "photos" / "train" / old).rename(copy / "photos" / "train" / new)
    for arguments in (
        ("runs/photos",),
        ("tiny", "--weights", "runs/photos/model.weights.h5", "--data", "photos"),
    ):
        code, output = command("evaluate", *arguments)
        assert code == 2 and "tell blue, green, red apart; photos" in output.err
        assert "has azul, rojo, verde" in output.err and len(output.err.splitlines()) == 1
    with pytest.raises(ValueError, match="train/azul: 0 images then, 12 now"):
        train(RECIPE, "runs/photos", "photos")


def test_another_size_is_refused_by_both_sizes(copy, command):
    described = copy / "runs" / "photos" / "run.json"
    fields = json.loads(described.read_text())
    described.write_text(json.dumps({**fields, "classes": list("0123456789")}))
    code, output = command("evaluate", "runs/photos", "--data", "digits")
    assert code == 2
    assert "are for images of 24 x 24 x 3; those of digits are 32 x 32 x 3" in output.err


def test_published_weights_and_data_that_contradict(copy, command):
    code, output = command("evaluate", "resnet20", "--data", "photos", "--data-dir", "photos")
    assert code == 2 and "resnet20:cifar10 tell airplane, automobile" in output.err
    assert "photos (photos) has blue, green, red" in output.err


def test_held_out_images_that_cannot_be_found_again_are_refused(copy, command):
    for i in range(6, 12):
        (copy / "photos" / "train" / "red" / f"{i}.png").unlink()
    code, output = command("evaluate", "runs/photos")
    assert code == 2 and "cannot be told from those that it was trained on" in output.err
    assert "train/red: 12 images then, 6 now" in output.err


def test_other_test_images_are_evaluated_and_said(copy, command):
    make_photos(copy / "photos", each=3, splits=("test",))
    code, output = command("evaluate", "runs/photos")
    assert code == 0 and json.loads(output.out)["images"] == 9
    assert "warning: photos" in output.err and "test/red: 0 images then, 3 now" in output.err
    with pytest.warns(ChangedDataWarning, match="is not as it was when runs/photos was trained"):
        run_data("runs/photos")


def test_images_that_were_moved_elsewhere(copy, command):
    (copy / "photos").rename(copy / "elsewhere")
    code, output = command("evaluate", "runs/photos")
    assert code == 2 and "which is not there any more; say where they are with --data-dir" in (
        output.err
    )
    code, output = command("evaluate", "runs/photos", "--data-dir", "elsewhere")
    assert code == 0 and json.loads(output.out) == results_of(copy / "runs" / "photos")["test"]


# ---- training again


def test_images_that_have_changed_are_not_given_old_results(copy):
    assert train(RECIPE, "runs/photos", "photos") == results_of(copy / "runs" / "photos")
    before = {p.name: p.read_bytes() for p in (copy / "runs" / "photos").iterdir() if p.is_file()}
    for i in range(5):
        moved = copy / "photos" / "train" / "red" / f"{i}.png"
        moved.rename(copy / "photos" / "train" / "blue" / f"of_red_{i}.png")
    with pytest.raises(
        ValueError,
        match="photos holds a run on other data: .*train/blue: 12 images then, 17 now; "
        "train/red: 12 images then, 7 now.*choose another folder with --out",
    ):
        train(RECIPE, "runs/photos", "photos")
    after = {p.name: p.read_bytes() for p in (copy / "runs" / "photos").iterdir() if p.is_file()}
    assert after == before


def test_images_that_were_swapped_are_noticed(copy):
    """The number of images of each class stays the same."""
    red, blue = (copy / "photos" / "train" / name / "0.png" for name in ("red", "blue"))
    red.rename(copy / "moved.png")
    blue.rename(red)
    (copy / "moved.png").rename(blue)
    if red.stat().st_size == blue.stat().st_size:
        pytest.skip("the two files have the same size")
    with pytest.raises(ValueError, match="train/blue: 12 images, not the same"):
        train(RECIPE, "runs/photos", "photos")


def test_images_may_change_before_the_first_epoch_has_ended(copy):
    """Such as a file that cannot be read and is removed."""
    run = copy / "runs" / "photos"
    for name in ("results.json", "model.weights.h5", "log.csv"):
        (run / name).unlink()
    (copy / "photos" / "train" / "red" / "0.png").unlink()
    train(RECIPE, run, "photos", verbose=0)
    assert zoo.read_run(run).data.images["train/red"][0] == 11
    assert zoo.read_run(run).results == results_of(run)


@pytest.mark.slow
def test_images_in_memory_that_have_changed(tiny_entry, tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"data": "digits", "image_size": None})
    train(recipe, tmp_path / "run", steps=2, verbose=0)
    from keras_dynnets.training.data import datasets

    digits = datasets._digits()
    digits.images[0] = 255 - digits.images[0]
    monkeypatch.setattr(datasets, "_digits", lambda: digits)
    with pytest.raises(ValueError, match=r"(train|test)/0: \d+ images, not the same"):
        train(recipe, tmp_path / "run", steps=2)


# ---- where the data lies


@pytest.mark.parametrize("name", ["photos", "cifar10", "digits"])
def test_a_folder_that_does_not_exist_is_refused_as_such(name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tensorflow_datasets.list_builders", lambda: pytest.fail("a data set was looked up")
    )
    with pytest.raises(ValueError, match="/no/such is not a folder; data_dir"):
        load_data(name, "/no/such")


def test_the_home_folder_is_expanded(trained, monkeypatch):
    monkeypatch.setenv("HOME", str(trained))
    data = load_data("photos", "~/photos", image_size=8)
    assert data.classes == tuple(COLOURS)
    monkeypatch.setenv("TFDS_DATA_DIR", "~/photos")
    assert load_data("photos", image_size=8).classes == tuple(COLOURS)


# ---- exported files and predictions


def labels_in(path):
    return json.loads(path.with_name(f"{path.name}.json").read_text())["labels"]


def test_the_classes_travel_into_exported_files(run, command, tmp_path):
    code, _ = command("export", run, tmp_path / "a.onnx")
    assert code == 0 and labels_in(tmp_path / "a.onnx") == list(COLOURS)
    described = json.loads((tmp_path / "a.onnx.json").read_text())
    assert described["input"]["shape"][1:] == [24, 24, 3]
    model = zoo.load(run)
    export_model(model, tmp_path / "b.tflite")
    assert labels_in(tmp_path / "b.tflite") == list(COLOURS)
    export_model(model.deployments(gates=True), tmp_path / "c.tflite")
    assert labels_in(tmp_path / "c.tflite") == list(COLOURS)
    export_model(model, tmp_path / "d.tflite", labels=["a", "b", "c"])
    assert labels_in(tmp_path / "d.tflite") == ["a", "b", "c"]


def test_classes_that_may_have_changed_are_left_out(run, tmp_path, caplog):
    model = helpers.compiled(zoo.load(run))
    model.train_on_batch(helpers.images(4, 24), helpers.labels(4, 3))
    export_model(model, tmp_path / "a.tflite")
    assert labels_in(tmp_path / "a.tflite") is None
    assert "give labels=model.class_names if they are the same" in caplog.text


def test_the_classes_of_published_weights_travel(tmp_path):
    model = zoo.load("tissue_mlp")
    export_model(model, tmp_path / "a.tflite")
    assert labels_in(tmp_path / "a.tflite") == list(zoo.labels("tissue_mlp"))
    # With num_classes the user has classes of their own, even if there are as many.
    assert not hasattr(zoo.load("tissue_mlp", num_classes=10), "class_names")


@pytest.mark.slow
def test_the_classes_of_parts_travel(monkeypatch, tmp_path):
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    recipe = RECIPE.model_copy(update={"entry": "parts", "options": {}})
    train(recipe, tmp_path / "run", make_photos(tmp_path / "photos"), verbose=0)
    whole, part = zoo.load(tmp_path / "run"), zoo.load(tmp_path / "run", sub_model=2)
    assert part.class_names == whole.detach(1).class_names == tuple(COLOURS)
    export_model(whole, tmp_path / "all.tflite")
    assert labels_in(tmp_path / "all.tflite") == list(COLOURS)
    assert whole.accuracy == zoo.read_run(tmp_path / "run").validation["sub_models"]


def test_predict(run, trained, command):
    photos = [trained / "photos" / "train" / name / "0.png" for name in COLOURS]
    code, output = command("predict", run, *photos, "--json")
    assert code == 0
    rows = json.loads(output.out)
    assert [row["image"] for row in rows] == list(map(str, photos))
    images = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in photos])
    assert images.shape == (3, 20, 20, 3)
    assert all({*row["classes"]} == {*COLOURS} for row in rows)
    assert all(abs(sum(row["classes"].values()) - 1) < 1e-5 for row in rows)
    code, output = command("predict", run, photos[0], "--top", "1")
    best = max(rows[0]["classes"], key=rows[0]["classes"].get)
    assert code == 0 and output.out.startswith(f"{photos[0]}: {best} ")


def test_predict_of_what_has_no_names_or_no_photo(run, command, tmp_path):
    code, output = command("predict", run, tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert code == 2 and f"no image file {tmp_path / 'a.jpg'}, {tmp_path / 'b.jpg'}" in output.err
    (tmp_path / "a.jpg").write_text("no image")
    code, output = command("predict", run, tmp_path / "a.jpg")  # others would be classified
    assert code == 1 and "a.jpg cannot be read as an image" in output.err
    code, output = command("predict", "tiny", tmp_path / "a.jpg")
    assert code == 2 and "the names of the classes of tiny with weights 'default'" in output.err


@pytest.mark.slow
def test_published_weights_are_evaluated_on_their_own_held_out_images(
    tiny_entry, tmp_path, monkeypatch, command
):
    """The test images of this data set are drawn by the seed of the training."""
    recipe = RECIPE.model_copy(update={"data": "digits", "image_size": None, "seed": 3})
    train(recipe, tmp_path / "run", steps=2, verbose=0)
    record = publish(tmp_path / "run", published=tmp_path / "zoo")
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "zoo")
    code, output = command("evaluate", "tiny", "--data", "digits")
    found = json.loads(output.out)
    assert code == 0 and {key: found[key] for key in record.metrics} == record.metrics
    assert evaluate_again(published=tmp_path / "zoo")[0].metrics == record.metrics
