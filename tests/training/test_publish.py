import json

import helpers
import numpy as np
import pytest

from keras_dynnets import zoo
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.training import Recipe, evaluate, load_data, train
from keras_dynnets.training.publishing import publish
from keras_dynnets.zoo.weights import published
from keras_dynnets.zoo.weights.records import read_index

RECIPE = Recipe(
    entry="tiny",
    data="digits",
    epochs=1,
    batch_size=16,
    learning_rate=0.05,
    warmup_epochs=0,
    momentum=0.9,
    weight_decay=0.001,
    validation=50,
    options={"target_rate": 0.5},
)


@pytest.fixture
def run(tiny_entry, tmp_path):
    train(RECIPE, tmp_path / "run", steps=2)
    return tmp_path / "run"


def test_what_is_published_loads_by_its_tag(run, tmp_path, monkeypatch):
    folder = tmp_path / "zoo"
    record = publish(run, published=folder)
    monkeypatch.setattr(published, "PUBLISHED", folder)
    assert zoo.labels("tiny", "digits") == tuple("0123456789")
    from_run = zoo.load("tiny", run / "model.weights.h5", target_rate=0.5)
    model = zoo.load("tiny", weights="digits")
    for value, trained in zip(model.get_weights(), from_run.get_weights(), strict=True):
        np.testing.assert_array_equal(value, trained.astype("float16"))
    card = (folder / "tiny" / "README.md").read_text()
    assert record.sha256 in card
    assert f"{record.metrics['accuracy']:.2%} top-1 on the 299 test images" in card
    assert record.file == f"tiny-digits-{record.sha256[:8]}.weights.h5"
    assert record.params == sum(w.size for w in map(np.asarray, model.trainable_weights))
    metrics = record.metrics
    assert record.macs == metrics["macs_all_on"] >= record.macs_mean == metrics["macs_mean"]
    assert record.data_source.startswith("Optical Recognition") and record.data_source in card
    assert record.sha256 in (folder / "results.csv").read_text()


def test_publishing_again_replaces(run, tmp_path, monkeypatch):
    """Also a run of an earlier version, into the folder that is the default."""
    folder = tmp_path / "zoo"
    publish(run, published=folder)
    recipe = json.loads((run / "recipe.json").read_text())
    del recipe["family"]
    schedule = {"target_falls_from_epoch": 0, "target_reached_epoch": 2, "noise_until_epoch": None}
    (run / "recipe.json").write_text(json.dumps({**recipe, **schedule}))
    monkeypatch.setattr(published, "PUBLISHED", folder)
    record = publish(run)
    assert record.recipe["family"] == schedule
    assert read_index(folder) == [record]
    assert len(list((folder / "tiny").glob("*.h5"))) == 1


def test_figures_that_do_not_repeat_are_refused(run, tmp_path):
    results = json.loads((run / "results.json").read_text())
    results["test"]["accuracy"] += 0.01
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(RuntimeError, match="metric accuracy does not repeat: the run"):
        publish(run, published=tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        publish(tmp_path, published=tmp_path / "zoo")


def test_a_variant_has_a_tag_and_commands_of_its_own(tiny_entry, tmp_path):
    recipe = RECIPE.model_copy(update={"variant": "small"})
    train(recipe, tmp_path / "run", steps=2)
    record = publish(tmp_path / "run", published=tmp_path / "zoo")
    assert record.tag == "digits_small" and record.file.startswith("tiny-digits_small-")
    assert record.evaluate == "keras-dynnets evaluate tiny --data digits --weights digits_small"
    assert record.train == "keras-dynnets train tiny --data digits --recipe tiny_digits_small"


@pytest.mark.slow
def test_sub_models_of_a_cnsn(monkeypatch, tmp_path):
    """They train in bfloat16, are published with their accuracies, and load whole or detached."""
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    recipe = RECIPE.model_copy(
        update={
            "entry": "parts",
            "options": {"distillation": 0.5},
            "dtype_policy": "mixed_bfloat16",
        }
    )
    results = train(recipe, tmp_path / "run", steps=8)
    assert set(results["test"]["sub_models"]) == {"base", "sub1", "sub2"}
    record = publish(tmp_path / "run", published=tmp_path / "zoo")
    assert record.validation == results["validation"]
    stored = zoo.load("parts", tmp_path / "zoo" / "parts" / record.file, distillation=0.5)
    # The metrics are those of the file in float16, not those of the run.
    assert record.metrics == evaluate(stored, load_data("digits").test)
    card = (tmp_path / "zoo" / "parts" / "README.md").read_text()
    assert f"| accuracy of sub2 | {record.metrics['sub_models']['sub2']:.2%} |" in card
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "zoo")
    model = zoo.load("parts", weights="digits")
    assert model.accuracy == record.validation["sub_models"] and model.distillation == 0.5
    x = load_data("digits").test.images[:8]
    small = zoo.load("parts", weights="digits", sub_model=2)
    np.testing.assert_array_equal(
        small.predict(x, verbose=0), model.detach(2).predict(x, verbose=0)
    )
