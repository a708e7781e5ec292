import json

import helpers
import numpy as np
import pytest
from keras_dynnets.zoo.records import read_index

from keras_dynnets import zoo
from keras_dynnets.training import Recipe, evaluate, load_data, train
from keras_dynnets.training.publish import publish
from keras_dynnets.zoo import registry, weights

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
    shelf = tmp_path / "shelf"
    record = publish(run, shelf=shelf)
    monkeypatch.setattr(weights, "SHELF", shelf)
    assert zoo.labels("tiny", "digits") == tuple("0123456789")
    from_run = zoo.load("tiny", run / "model.weights.h5", target_rate=0.5)
    published = zoo.load("tiny", weights="digits")
    for value, trained in zip(published.get_weights(), from_run.get_weights(), strict=True):
        np.testing.assert_array_equal(value, trained.astype("float16"))
    card = (shelf / "tiny" / "README.md").read_text()
    assert (
        record.sha256 in card
        and f"{record.metrics['accuracy']:.2%} top-1 on the 299 test images" in card
    )
    assert record.file == f"tiny-digits-{record.sha256[:8]}.weights.h5"
    assert record.params == sum(w.size for w in map(np.asarray, published.trainable_weights))
    assert (
        record.macs
        == record.metrics["macs_all_on"]
        >= record.macs_mean
        == record.metrics["macs_mean"]
    )
    assert record.data_source.startswith("Optical Recognition") and record.data_source in card
    assert record.sha256 in (shelf / "results.csv").read_text()


def test_publishing_again_replaces(run, tmp_path, monkeypatch):
    shelf = tmp_path / "shelf"
    publish(run, shelf=shelf)
    publish(run, shelf=shelf)
    assert len(read_index(shelf)) == 1
    assert len(list((shelf / "tiny").glob("*.h5"))) == 1


def test_figures_that_do_not_repeat_are_refused(run, tmp_path):
    results = json.loads((run / "results.json").read_text())
    results["test"]["accuracy"] += 0.01
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(RuntimeError, match="accuracy does not repeat: the run recorded"):
        publish(run, shelf=tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        publish(tmp_path, shelf=tmp_path / "shelf")


def test_a_variant_has_a_tag_and_commands_of_its_own(tiny_entry, tmp_path):
    recipe = RECIPE.model_copy(update={"variant": "small"})
    train(recipe, tmp_path / "run", steps=2)
    record = publish(tmp_path / "run", shelf=tmp_path / "shelf")
    assert record.tag == "digits_small" and record.file.startswith("tiny-digits_small-")
    assert record.evaluate == "keras-dynnets evaluate tiny --data digits --weights digits_small"
    assert record.train == "keras-dynnets train tiny --data digits --recipe tiny_digits_small"


@pytest.mark.slow
def test_sub_models_of_a_cnsn(monkeypatch, tmp_path):
    """Trained in half precision, published with the accuracy of every part, loaded whole and detached."""
    monkeypatch.setitem(registry.ENTRIES, "parts", helpers.PARTS_ENTRY)
    recipe = RECIPE.model_copy(
        update={
            "entry": "parts",
            "options": {"distillation": 0.5},
            "dtype_policy": "mixed_bfloat16",
        }
    )
    results = train(recipe, tmp_path / "run", steps=8)
    assert set(results["test"]["sub_models"]) == {"base", "sub1", "sub2"}
    record = publish(tmp_path / "run", shelf=tmp_path / "shelf")
    assert record.validation == results["validation"]
    published = evaluate(
        zoo.load("parts", tmp_path / "shelf" / "parts" / record.file, distillation=0.5),
        load_data("digits").test,
    )
    assert record.metrics == published  # of the file in half precision, not of the run
    card = (tmp_path / "shelf" / "parts" / "README.md").read_text()
    assert f"| accuracy of sub2 | {record.metrics['sub_models']['sub2']:.2%} |" in card
    monkeypatch.setattr(weights, "SHELF", tmp_path / "shelf")
    model = zoo.load("parts", weights="digits")
    assert model.accuracy == record.validation["sub_models"] and model.distillation == 0.5
    x = load_data("digits").test.images[:8]
    small = zoo.load("parts", weights="digits", sub_model=2)
    np.testing.assert_array_equal(
        small.predict(x, verbose=0), model.detach(2).predict(x, verbose=0)
    )
