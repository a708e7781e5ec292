"""A run, and a file of its model, know what was trained on which images.

`tests/training/test_run_folders.py` tests the mechanisms further.
"""

import json
import shutil

import helpers
import keras
import numpy as np
import pytest
from PIL import Image

from keras_dynnets import zoo
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.export import export_model
from keras_dynnets.training import Recipe, load_data, run_data, train
from keras_dynnets.zoo.model_files import run_in_file

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `photos/`, which has no test images, and the finished run `runs/photos`."""
    place = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (place / "photos" / "train" / name).mkdir(parents=True)
        for i in range(12):
            image = np.clip(colour + rng.normal(0, 30, (20, 20, 3)), 0, 255).astype("uint8")
            Image.fromarray(image).save(place / "photos" / "train" / name / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENTRIES, "tiny", helpers.TINY_ENTRY)
        train(RECIPE, place / "runs" / "photos", place / "photos", verbose=0)
    return place


@pytest.fixture
def place(trained, tiny_entry, tmp_path, monkeypatch):
    """A copy of run and photos, which a test may change; the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    described = tmp_path / "runs" / "photos" / "run.json"
    described.write_text(described.read_text().replace(str(trained), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results_of(run):
    return json.loads((run / "results.json").read_text())["test"]


def described(path):
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def test_a1_the_size_of_the_recipe_is_that_of_evaluation_and_file(place, command):
    """A1: images of 24 pixels, where the network takes 32 by default."""
    code, output = command("evaluate", "runs/photos")
    assert code == 0 and json.loads(output.out) == results_of(place / "runs" / "photos")
    code, _ = command("export", "runs/photos/", "m.tflite")
    assert code == 0 and described(place / "m.tflite")["input"]["shape"] == [1, 24, 24, 3]


def test_a2_held_out_images_are_those_of_the_run(place):
    """A2: drawn by the seed of the run, not by seed 0."""
    own = {*run_data("runs/photos").test.images.paths}
    seeds = [load_data("photos", "photos", seed=n, image_size=24).test.images for n in (0, 1)]
    assert own != {*seeds[0].paths}
    assert {str(path) for path in seeds[1].paths} == {str(p.relative_to(place)) for p in own}


def test_a3_folders_of_other_names_are_other_classes(place, command):
    """A3: after renaming red, green, blue to rojo, verde, azul."""
    for old, new in {"red": "rojo", "green": "verde", "blue": "azul"}.items():
        (place / "photos" / "train" / old).rename(place / "photos" / "train" / new)
    code, output = command("evaluate", "runs/photos")
    assert code == 2 and "tell blue, green, red apart" in output.err
    assert "has azul, rojo, verde" in output.err and len(output.err.splitlines()) == 1


def test_a4_an_exported_run_has_its_names(place, command):
    """A4: from the shell and from Python, with nothing else given."""
    assert command("export", "runs/photos", "m.onnx")[0] == 0
    assert described(place / "m.onnx")["labels"] == list(COLOURS)
    export_model(zoo.load("runs/photos"), "p.tflite")
    assert described(place / "p.tflite")["labels"] == list(COLOURS)


def test_a5_images_that_moved_to_another_class_are_noticed(place):
    """A5: the same command gave the old results."""
    for i in range(5):
        moved = place / "photos" / "train" / "red" / f"{i}.png"
        moved.rename(place / "photos" / "train" / "blue" / f"of_red_{i}.png")
    with pytest.raises(ValueError, match="on other data: .*train/blue: 12 images then, 17 now"):
        train(RECIPE, "runs/photos", "photos")


def test_a6_a_removed_bad_file_does_not_end_a_run_that_has_not_begun(place):
    """A6: once the file was removed, the folder "held a run on other data"."""
    run = place / "runs" / "photos"
    for name in ("results.json", "model.weights.h5", "log.csv"):
        (run / name).unlink()
    (place / "photos" / "train" / "red" / "0.png").unlink()
    train(RECIPE, run, "photos", verbose=0)
    assert zoo.read_run(run).data.images["train/red"][0] == 11


@pytest.mark.parametrize("name", ["photos", "cifar10"])
def test_a7_a_folder_that_is_not_there(name, place, monkeypatch):
    """A7: nothing is looked up or downloaded; `~` is the home folder."""
    monkeypatch.setattr("tensorflow_datasets.list_builders", lambda: pytest.fail("looked up"))
    with pytest.raises(ValueError, match="/no/such is not a folder"):
        load_data(name, "/no/such")
    monkeypatch.setenv("HOME", str(place))
    assert load_data("photos", "~/photos", image_size=8).classes == tuple(COLOURS)


def test_d12_evaluation_tells_how_often_gates_are_open(place, command):
    """D12: accuracy alone hid gates that never change."""
    found = json.loads(command("evaluate", "runs/photos")[1].out)
    assert 0 <= found["execution_rate"] <= 1
    assert found["gates_always_open"] + found["gates_always_closed"] <= found["gates"]


# ---- a `.keras` file stands where a run folder can stand


def test_a_file_of_a_run_knows_what_the_run_knows(place, command):
    """A: entry, size, classes, held-out images; the run folder itself is not needed."""
    zoo.load("runs/photos").save("m.keras")
    wanted = results_of(place / "runs" / "photos")
    shutil.rmtree(place / "runs")
    model = zoo.load("m.keras")
    assert model.class_names == zoo.labels("m.keras") == tuple(COLOURS)
    assert not model.compiled and model.target_rate == 0.5
    for name in ("m.keras", place / "m.keras"):
        code, output = command("evaluate", name)
        assert code == 0 and json.loads(output.out) == wanted
    assert command("export", "m.keras", "m.tflite")[0] == 0
    assert described(place / "m.tflite")["labels"] == list(COLOURS)
    code, output = command("predict", place / "m.keras", "photos/train/red/0.png", "--json")
    assert code == 0 and {*json.loads(output.out)[0]["classes"]} == {*COLOURS}
    code, output = command("info", "m.keras", "--json")
    assert code == 0 and json.loads(output.out)["input_shape"] == [24, 24, 3]
    (place / "photos" / "train" / "red").rename(place / "photos" / "train" / "rot")
    code, output = command("evaluate", "m.keras")
    assert code == 2 and "weights of m.keras tell blue, green, red apart" in output.err


def test_a_file_of_a_model_that_was_trained_on_knows_no_run(place, command):
    """A: its classes may be others, so nothing is said of them."""
    model = helpers.compiled(zoo.load("runs/photos"))
    model.train_on_batch(helpers.images(4, 24), helpers.labels(4, 3))
    model.save("m.keras")
    assert zoo.labels("m.keras") is None
    code, output = command("evaluate", "m.keras")
    assert code == 2 and "m.keras does not say what it was trained on" in output.err
    code, output = command("evaluate", "m.keras", "--data", "photos", "--data-dir", "photos")
    assert code == 0 and json.loads(output.out)["images"] > 0
    code, output = command("predict", "m.keras", "photos/train/red/0.png")
    assert code == 2 and "the names of the classes of m.keras" in output.err


def test_a_file_of_a_plain_model(place, command):
    """A: a model of the user's own, in the shell."""
    inputs = keras.Input((20, 20, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(4)(x)).save("own.keras")
    assert zoo.labels("own.keras") is None
    assert command("export", "own.keras", "own.tflite")[0] == 0
    assert described(place / "own.tflite")["labels"] is None
    code, output = command("evaluate", "own.keras", "--data", "photos", "--data-dir", "photos")
    assert code == 2 and "own.keras has 4 logits, and photos (photos) 3 classes" in output.err


def test_a_file_that_is_none_or_takes_more(place, command):
    """A: refused in one line."""
    (place / "bad.keras").write_text("no model")
    for arguments, message in (
        (("export", "none.keras", "m.tflite"), "there is no file none.keras"),
        (("export", "bad.keras", "m.tflite"), "bad.keras is no"),
        (("predict", "bad.keras", "photos/train/red/0.png"), "bad.keras is no"),
    ):
        code, output = command(*arguments)
        assert code == 2 and message in output.err and len(output.err.splitlines()) == 1
    keras.Sequential([keras.Input((20, 20, 3)), keras.layers.Flatten()]).save("own.keras")
    for wrong in ({"weights": "cifar10"}, {"weights": None}, {"num_classes": 3}):
        with pytest.raises(ValueError, match="is a whole model, so it takes no weights"):
            zoo.load("own.keras", **wrong)


# ---- where a run lies


def test_a_run_that_was_moved_or_cannot_be_written(place):
    """A: relative, renamed, with a slash at the end, read-only."""
    (place / "runs" / "photos").rename(place / "elsewhere")
    (place / "elsewhere").chmod(0o555)
    try:
        for name in ("./elsewhere", "elsewhere/", place / "elsewhere"):
            assert zoo.load(name).class_names == tuple(COLOURS)
        assert len(run_data("elsewhere").test)
    finally:
        (place / "elsewhere").chmod(0o755)


def test_the_weights_of_a_run_in_another_network_are_refused(place, monkeypatch):
    """A: in one line."""
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    with pytest.raises(ValueError, match="does not hold the weights of parts"):
        zoo.load("parts", "runs/photos/model.weights.h5")


def test_a_file_keeps_no_confusion_matrix(place):
    """A: of a thousand classes it has a million numbers."""
    zoo.load("runs/photos").save("m.keras")
    assert "confusion" in results_of(place / "runs" / "photos")
    of_file, of_run = run_in_file(place / "m.keras"), zoo.read_run("runs/photos")
    assert of_file.results["test"].keys() == of_run.results["test"].keys() - {"confusion"}
    assert of_file.validation == of_run.validation and of_file.data == of_run.data
    unfinished = of_run.model_copy(update={"results": None})
    assert json.loads(unfinished.short_description()) == json.loads(unfinished.description())


def test_a_file_of_a_run_of_an_earlier_version_is_evaluated(place, command):
    """A: `recipe.json` was looked for in the file, as if it were a folder."""
    run = place / "runs" / "photos"
    shapes = {"train": [27, 24, 24, 3], "validation": [3, 24, 24, 3], "test": [6, 24, 24, 3]}
    (run / "data.json").write_text(json.dumps({"classes": list(COLOURS), **shapes}))
    (run / "run.json").unlink()
    zoo.load("runs/photos").save("m.keras")
    code, output = command("evaluate", "runs/photos", "--data-dir", "photos")
    wanted = json.loads(output.out)
    shutil.rmtree(place / "runs")
    code, output = command("evaluate", "m.keras", "--data-dir", "photos")
    assert code == 0 and json.loads(output.out) == wanted


def test_predict_refuses_a_network_of_open_size_once(place, command, monkeypatch):
    """A: there was an error for each photo, which the photo had no part in."""
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    model.save("open.keras")
    monkeypatch.setattr(zoo, "labels", lambda name, weights: tuple(COLOURS))
    photos = [f"photos/train/red/{i}.png" for i in range(2)]
    code, output = command("predict", "open.keras", *photos)
    assert code == 2 and output.err.count("open.keras takes images of any size") == 1
    assert len(output.err.splitlines()) == 1


def test_a_file_of_a_sequential_is_evaluated(tmp_path, command, monkeypatch):
    """A1: Keras gives no output of a `Sequential` that was loaded and never called."""
    monkeypatch.chdir(tmp_path)
    layers = keras.layers
    keras.Sequential(
        [keras.Input((8, 8, 3)), layers.GlobalAveragePooling2D(), layers.Dense(len(COLOURS))]
    ).save("mine.keras")
    for name, colour in COLOURS.items():
        (tmp_path / "new" / "test" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "new" / "test" / name / "0.png")
    code, output = command(
        "evaluate", "mine.keras", "--data", "mine", "--data-dir", "new", "--json"
    )
    assert code == 0, output.err
    assert json.loads(output.out)["images"] == len(COLOURS)
