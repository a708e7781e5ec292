"""A stranger's family and format pass through the whole library, which knows neither."""

import json

import helpers
import keras
import numpy as np
import pytest
import toy

from keras_dynnets import profile, zoo
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.export import export_model
from keras_dynnets.export.formats import base
from keras_dynnets.training import evaluate, find_recipe, load_data, train

RECIPE = """
entry: toy_bright
data: digits
epochs: 1
batch_size: 64
learning_rate: 0.01
warmup_epochs: 0
weight_decay: 0
family: {warn_below: 0.25}
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Registers the toy family and format for one test."""
    base.formats()  # the built-in ones come first
    monkeypatch.setattr(base, "_formats", dict(base._formats))
    before = dict(ENTRIES)
    toy.register()
    yield
    ENTRIES.clear()
    ENTRIES.update(before)


@pytest.fixture(scope="module")
def images():
    return np.concatenate([helpers.images(4, 32) / 4, 255 - helpers.images(4, 32) / 4])


def test_it_loads_by_its_name_and_is_counted():
    model = zoo.load("toy_bright", weights=None, num_classes=3)
    assert model.output_shape == (None, 3)
    counted = profile.count(model)
    assert counted.macs == counted.level_macs[1] == 4 * counted.level_macs[0] > 0
    assert "toy_bright" in zoo.list_models("toy*")
    assert zoo.info("toy_bright").family == "toy"


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="an entry 'toy_plain' already"):
        zoo.register("toy_plain", "toy", toy.plain, input_shape=(32, 32, 3), num_classes=10)


def test_register_decorates():
    @zoo.register("toy_decorated", "toy", input_shape=(32, 32, 3), num_classes=10)
    def build(num_classes, input_shape, name):
        return toy.branch(input_shape, num_classes, 4, name)

    assert zoo.load("toy_decorated", weights=None).name == "toy_decorated"
    assert build((3), (32, 32, 3), "x").output_shape == (None, 3)


def test_it_is_measured(images):
    model = zoo.load("toy_bright", weights=None)
    measured = profile.measure(model, images)
    assert len(set(measured.macs)) == 2
    helpers.assert_close(measured.logits, model.predict(images, verbose=0))


def test_it_trains_by_a_recipe_file_and_is_evaluated(tmp_path):
    (tmp_path / "own.yaml").write_text(RECIPE)
    recipe = find_recipe("toy_bright", "digits", tmp_path / "own.yaml")
    results = train(recipe, tmp_path / "run", steps=3, verbose=0)
    model = zoo.load("toy_bright", tmp_path / "run" / "model.weights.h5", num_classes=10)
    again = evaluate(model, load_data("digits", seed=recipe.seed).test)
    assert again == pytest.approx({key: results["test"][key] for key in again})
    assert again["macs_mean"] > 0


def test_the_family_validates_its_section_of_a_recipe(tmp_path):
    (tmp_path / "own.yaml").write_text(RECIPE.replace("warn_below", "warn_above"))
    with pytest.raises(ValueError, match="warn_above"):
        find_recipe("toy_bright", "digits", tmp_path / "own.yaml")


@pytest.mark.parametrize("path", ["toy.tflite", "toy.onnx", "toy", "toy.pb"])
def test_it_exports_to_all_formats(tmp_path, path, images):
    model = zoo.load("toy_bright", weights=None)
    kind = "saved_model" if path == "toy" else None
    report = export_model(model, tmp_path / path, kind, calibration=images)
    assert report.paths == 2 or path == "toy.pb"
    assert report.top1_agreement == 1


def test_its_own_options_of_an_export(tmp_path):
    model = zoo.load("toy_bright", weights=None)
    export_model(model.deployments(network=0), tmp_path / "dark.tflite")
    with pytest.raises(ValueError, match="no option level; it has network"):
        model.deployments(level=0)


def test_the_format_refuses_what_it_does_not_have(tmp_path):
    model = zoo.load("toy_plain", weights=None)
    with pytest.raises(ValueError, match="frozen_graph files have no fp16, but fp32"):
        export_model(model, tmp_path / "toy.pb", precision="fp16")


def test_it_is_benched_against_its_rival(monkeypatch):
    monkeypatch.setattr(
        "keras_dynnets.measure.latency.set_tensorflow_threads", lambda threads: None
    )
    runtimes = ["tensorflow", "litert", "frozen_graph"]
    rows = profile.compare("toy_bright", "toy_plain", runtimes, repeats=1)
    assert [row.runtime for row in rows] == runtimes


def test_the_command_line_knows_it(command, tmp_path):
    assert command("list", "toy*")[1].out.split() == ["toy_bright", "toy_plain"]
    status, printed = command("info", "toy_bright", "--json")
    assert (status, json.loads(printed.out)["family"]) == (0, "toy")
    status, printed = command("export", "toy_bright", tmp_path / "a.pb", "--option", "network=1")
    assert (status, json.loads(printed.out)["format"]) == (0, "frozen_graph")
    status, printed = command("export", "toy_bright", tmp_path / "b.pb", "--format", "c")
    assert status == 2
    assert "it is one of litert, onnx, saved_model, frozen_graph" in printed.err


def test_it_is_a_plain_keras_model(images):
    model = helpers.compiled(zoo.load("toy_bright", weights=None))
    model.fit(images, helpers.labels(8), verbose=0)
    assert isinstance(model, keras.Model)
