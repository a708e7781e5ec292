"""The runs of docs/fine-tuning.md, on real handwritten digits as image files."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

import keras_dynnets
from keras_dynnets import zoo
from keras_dynnets.training import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Where `photos/` has a folder for each of three digits."""
    digits = load_digits(n_class=3)
    for i, (image, label) in enumerate(zip(digits.images[:120], digits.target, strict=False)):
        folder = tmp_path / "photos" / ("zero", "one", "two")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 / 16 * image).astype("uint8")).resize((48, 40)).save(
            folder / f"{i}.png"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_page_runs(photos, caplog):
    names = {}
    histories, trained = [], []
    for block in blocks("python"):
        exec(compile(block, "docs/fine-tuning.md", "exec"), names)
        histories.append(names["model"].history.history)
        trained.append({v.path for v in names["model"].trainable_variables})
    assert "dmnn20: newly initialised: logits/kernel, logits/bias" in caplog.messages
    assert "dmnn20: newly initialised: logits/kernel, logits/bias" in PAGE
    assert histories[1]["accuracy"][-1] > 0.5, (
        "three classes, from what the page's first run has learned"
    )
    controllers = {path for path in trained[0] if "_controller/" in path}
    assert controllers and trained[1] == trained[0] - controllers
    assert "sub2_accuracy" in histories[2] and names["small"].output_shape == (None, 3)
    assert (photos / "all.tflite").is_file()
    x = next(iter(names["validation"]))[0].numpy()
    np.testing.assert_allclose(names["small"](x), names["model"].detach(2)(x), rtol=1e-4, atol=1e-4)


def test_the_steps_of_freezing_train_what_they_say():
    """The numbers of tensors in section 2, and which tensors they are."""
    _, block, _ = blocks("python")
    model = zoo.load("dmnn20", weights=None, num_classes=3)
    every = {w.path for w in model.trainable_weights}
    steps = re.findall(r"^(keras_dynnets\.freeze\(.*?\))  # (.*)$", block, re.MULTILINE)
    said = [int(re.search(r"(\d+)[a-z ]* tensors? train", comment)[1]) for _, comment in steps]
    trained = []
    for step, _ in steps:
        count = eval(step, {"model": model, "keras_dynnets": keras_dynnets})
        trained.append({w.path for w in model.trainable_weights})
        assert count == len(trained[-1])
    assert [len(paths) for paths in trained] == said
    assert trained[0] == {"logits/kernel", "logits/bias"}
    assert trained[1] == {path for path in every if "_controller/" not in path}


def test_its_recipe_is_one():
    (recipe,) = blocks("yaml")
    assert Recipe.model_validate(yaml.safe_load(recipe)).data == "photos"
