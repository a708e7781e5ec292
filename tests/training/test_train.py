import csv
import json

import helpers
import keras
import numpy as np
import pytest
from helpers import compiled, images, labels, scatter_gates, settle, tiny

from keras_dynnets import zoo
from keras_dynnets.training import Recipe, evaluate, train
from keras_dynnets.training.data.datasets import Split
from keras_dynnets.training.optimizer import compile_for

RECIPE = dict(
    entry="tiny",
    data="digits",
    epochs=3,
    batch_size=16,
    learning_rate=0.05,
    warmup_epochs=1,
    momentum=0.9,
    weight_decay=0.001,
    validation=50,
    seed=2,
    options={"target_rate": 0.5},
)


def log_of(folder):
    with open(folder / "log.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_train(tiny_entry, tmp_path):
    schedule = {"target_falls_from_epoch": 1, "target_reached_epoch": 2}
    recipe = Recipe(**RECIPE, family=schedule)
    run = train(recipe, tmp_path / "run", steps=3)
    folder, results = tmp_path / "run", run["test"]
    assert json.loads((folder / "results.json").read_text()) == run
    assert (
        run["seconds"] > 0 and run["hardware"] and set(run["versions"]) == {"keras", "tensorflow"}
    )
    assert train(recipe, folder, steps=3) == run  # a finished run is not run again
    assert results["images"] == 299 and 0 <= results["accuracy"] <= 1
    assert (
        0 < results["macs_share"] <= 1
        and results["macs_share"] == results["macs_mean"] / results["macs_all_on"]
    )
    assert Recipe.model_validate_json((folder / "recipe.json").read_text()).entry == "tiny"
    assert not (folder / "backup").exists()
    log = log_of(folder)
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert {"loss", "accuracy", "execution_rate", "macs_share", "val_loss", "val_accuracy"} <= set(
        log[0]
    )
    model = zoo.load("tiny", folder / "model.weights.h5")
    from keras_dynnets.training import load_data

    again = evaluate(model, load_data("digits", validation=50, seed=2).test)
    assert (
        again["accuracy"] == results["accuracy"]
        and again["execution_rate"] == results["execution_rate"]
    )


@pytest.mark.slow
def test_training_learns(tiny_entry, tmp_path):
    """With label smoothing, for which the labels become one-hot."""
    recipe = {**RECIPE, "epochs": 2, "flip": False, "translate": 1, "options": {"target_rate": 0.8}}
    assert train(Recipe(**recipe, label_smoothing=0.1), tmp_path)["test"]["accuracy"] > 0.4


@pytest.mark.slow
def test_phases_of_noise_and_target(tiny_entry, tmp_path):
    """With a learning rate near zero the log shows the effect of the schedule alone."""
    recipe = {**RECIPE, "learning_rate": 1e-9, "options": {"target_rate": 0.01}, "epochs": 2}
    schedule = {"target_falls_from_epoch": 1, "target_reached_epoch": 1, "noise_until_epoch": 1}
    train(Recipe(**recipe, family=schedule), tmp_path, steps=4)
    first, second = log_of(tmp_path)
    assert 0.6 < float(first["execution_rate"]) < 1  # noise
    assert float(second["execution_rate"]) == 1  # none: every gate starts on
    added = 3 * 0.99**2 + 0.99**2  # the resource loss, all on
    assert float(second["loss"]) - float(first["loss"]) > added / 2


def test_another_recipe_s_folder_is_refused(tiny_entry, tmp_path):
    (tmp_path / "recipe.json").write_text(Recipe(**{**RECIPE, "epochs": 1}).model_dump_json())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(
        ValueError,
        match="holds a run of another recipe .*recipe.json.* choose another folder with --out",
    ):
        train(Recipe(**{**RECIPE, "epochs": 2}), tmp_path, steps=1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_of_an_earlier_version_is_recognised(tiny_entry, tmp_path):
    """Its `recipe.json` has the family's fields beside the common ones."""
    schedule = {"target_falls_from_epoch": 0, "target_reached_epoch": 2, "noise_until_epoch": None}
    (tmp_path / "recipe.json").write_text(json.dumps({**RECIPE, **schedule}))
    (tmp_path / "results.json").write_text('{"test": "finished"}')
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        train(Recipe(**RECIPE), tmp_path)
    recipe = Recipe(**RECIPE, family={"target_reached_epoch": 2})
    assert train(recipe, tmp_path) == {"test": "finished"}
    assert Recipe.model_validate_json((tmp_path / "recipe.json").read_text()) == recipe


KILLED = """
import os, signal, helpers
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.training import Batches, Recipe, train

ENTRIES["tiny"] = helpers.TINY_ENTRY
batch = Batches.__getitem__

def deadly(self, index):
    if (self.epoch, index) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, index)

Batches.__getitem__ = deadly
train(Recipe(**RECIPE), "FOLDER", steps=3)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_as_uninterrupted(tiny_entry, tmp_path):
    recipe = Recipe(**RECIPE)
    train(recipe, tmp_path / "whole", steps=3)
    code = KILLED.replace("RECIPE", repr(RECIPE)).replace("FOLDER", str(tmp_path / "killed"))
    with pytest.raises(AssertionError):
        helpers.run_python(code)
    assert [row["epoch"] for row in log_of(tmp_path / "killed")] == ["0", "1"]
    assert not (tmp_path / "killed" / "model.weights.h5").exists()
    train(recipe, tmp_path / "killed", steps=3)
    whole, resumed = (
        zoo.load("tiny", tmp_path / name / "model.weights.h5") for name in ("whole", "killed")
    )
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    wholes, resumeds = log_of(tmp_path / "whole"), log_of(tmp_path / "killed")
    assert [row["epoch"] for row in resumeds] == ["0", "1", "2"]
    assert resumeds[2]["execution_rate"] == wholes[2]["execution_rate"]  # the same noise


# ---- optimiser


def test_schedule_warms_up_then_falls_to_zero():
    model = tiny()
    compile_for(model, Recipe(**{**RECIPE, "epochs": 10, "warmup_epochs": 2}), steps=100)
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 100, 200, 600, 1000)]
    np.testing.assert_allclose(rates, [0, 0.025, 0.05, 0.025, 0], atol=1e-6)


def test_schedule_without_warm_up():
    model = tiny()
    compile_for(model, Recipe(**{**RECIPE, "epochs": 10, "warmup_epochs": 0}), steps=100)
    schedule = model.optimizer._learning_rate
    np.testing.assert_allclose(
        [float(schedule(step)) for step in (0, 500, 1000)], [0.05, 0.025, 0], atol=1e-6
    )


def test_weight_decay_shrinks_kernels_only_and_no_controller():
    model = tiny()
    plan = model.training_plan(None, None)
    compile_for(model, Recipe(**{**RECIPE, "warmup_epochs": 0}), 10, plan.undecayed)
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape))
    zeros = [keras.ops.zeros(w.shape) for w in model.trainable_weights]
    model.optimizer.apply_gradients(zip(zeros, model.trainable_weights, strict=True))
    for weight in model.trainable_weights:
        kernel = weight.path.endswith("kernel") and "controller" not in weight.path
        np.testing.assert_allclose(
            weight, np.full(weight.shape, 1 - 0.05 * 0.001 * kernel), rtol=1e-6
        )


def test_no_xla_on_a_cpu():
    import tensorflow as tf

    model = zoo.load("resnet20", None)
    compile_for(model, Recipe(**{**RECIPE, "entry": "resnet20", "options": {}}), steps=10)
    assert bool(model.jit_compile) == bool(tf.config.list_physical_devices("GPU"))


# ---- evaluate


def test_evaluate_dynamic():
    model = scatter_gates(settle(tiny(), images(8)))
    split = Split(images(40).astype("uint8"), labels(40))
    results = evaluate(model, split, batch_size=16)
    x = split.images.astype("float32")
    gates = helpers.gates_of(model, x)
    assert results["images"] == 40
    assert results["accuracy"] == np.mean(np.argmax(model(x), -1) == split.labels)
    assert results["macs_all_on"] == model.fixed_macs + model.path_macs.sum()
    np.testing.assert_allclose(results["macs_mean"], model.macs_of(gates).mean())
    np.testing.assert_allclose(results["execution_rate"], gates.mean())


def test_evaluate_plain():
    model = compiled(zoo.load("resnet20", None))
    split = Split(images(10, 32).astype("uint8"), labels(10))
    accuracy = np.mean(np.argmax(model(split.images.astype("float32")), -1) == split.labels)
    assert evaluate(model, split) == {"accuracy": accuracy, "images": 10}


def test_evaluate_tells_gates_that_never_change():
    model = scatter_gates(settle(tiny(), images(8)))
    split = Split(images(40).astype("uint8"), labels(40))
    gates = helpers.gates_of(model, split.images.astype("float32"))
    results = evaluate(model, split)
    assert results["gates"] == gates[0].size
    assert results["gates_always_open"] == (gates.min(0) == 1).sum()
    assert results["gates_always_closed"] == (gates.max(0) == 0).sum()
    helpers.force_gates(model, [[1, 1], [1, 0], [0, 0]])
    results = evaluate(model, split)
    assert (results["gates"], results["execution_rate"]) == (6, 0.5)
    assert (results["gates_always_open"], results["gates_always_closed"]) == (3, 3)
