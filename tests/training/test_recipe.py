from importlib import resources

import pytest
import yaml
from pydantic import ValidationError

from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.training import Recipe, find_recipe
from keras_dynnets.training.data.datasets import SOURCES

SMALLEST = dict(
    entry="dmnn20",
    data="digits",
    epochs=2,
    batch_size=8,
    learning_rate=0.1,
    warmup_epochs=0,
    momentum=0.9,
    weight_decay=0,
)
SHIPPED = sorted(
    p.name
    for p in (resources.files("keras_dynnets.training") / "recipes").iterdir()
    if p.suffix == ".yaml"
)


@pytest.mark.parametrize("file", SHIPPED)
def test_shipped_recipes(file):
    name = file.removesuffix(".yaml")
    recipe = find_recipe("any", "any", name)
    assert name.startswith(f"{recipe.entry}_{recipe.data}")
    if name == f"{recipe.entry}_{recipe.data}":
        assert find_recipe(recipe.entry, recipe.data) == recipe
    assert (recipe.data in SOURCES) or recipe.variant == "paper"
    command = f"keras-dynnets train {recipe.entry} --data {recipe.data}"
    command += f" --recipe {name}" if recipe.variant else ""
    first = (
        (resources.files("keras_dynnets.training") / "recipes" / file).read_text().splitlines()[0]
    )
    assert first.removesuffix(" --data-dir DATA") == f"# {command}"
    assert set(recipe.options) <= set(ENTRIES[recipe.entry].options())


def test_cifar10_recipes_train_both_alike():
    dynamic, plain = (find_recipe(name, "cifar10").model_dump() for name in ("dmnn20", "resnet20"))
    own = {
        "entry",
        "options",
        "target_falls_from_epoch",
        "target_reached_epoch",
        "noise_until_epoch",
    }
    assert {k: v for k, v in dynamic.items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }
    assert dynamic["options"]["target_rate"] == 0.7


def test_the_target_falls_in_equal_steps():
    recipe = Recipe(**SMALLEST, target_falls_from_epoch=2, target_reached_epoch=5)
    assert [recipe.target_share(epoch) for epoch in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [Recipe(**SMALLEST).target_share(epoch) for epoch in range(3)] == [1, 1, 1]


def test_defaults():
    recipe = Recipe(**SMALLEST)
    assert (recipe.flip, recipe.translate, recipe.seed, recipe.options, recipe.label_smoothing) == (
        True,
        4,
        0,
        {},
        0,
    )


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe(**SMALLEST).epochs = 3


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("warmup_epochs", -1),
        ("momentum", 1),
        ("weight_decay", -0.1),
        ("label_smoothing", 1),
        ("translate", -1),
        ("validation", 0),
        ("target_falls_from_epoch", -1),
        ("target_reached_epoch", 0.5),
        ("noise_until_epoch", -1),
        ("optimizer", "lion"),
    ],
)
def test_a_bad_value_is_named(tmp_path, field, value):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**SMALLEST, field: value}))
    with pytest.raises(ValueError, match=rf"mine.yaml is not a valid recipe: [\s\S]*{field}"):
        find_recipe("dmnn20", "digits", file)


def test_a_missing_value_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in SMALLEST.items() if k != "epochs"}))
    with pytest.raises(ValueError, match=r"epochs\s+Field required"):
        find_recipe("dmnn20", "digits", file)


@pytest.mark.parametrize("text", ["", "just words", "a: [1", "- 1\n- 2"])
def test_a_file_that_is_no_recipe(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="mine.yaml is not a valid recipe"):
        find_recipe("dmnn20", "digits", file)


def test_a_file_of_one_s_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(SMALLEST))
    assert find_recipe("dmnn20", "digits", file) == Recipe(**SMALLEST)
    assert find_recipe("dmnn20", "digits", str(file)) == Recipe(**SMALLEST)


def test_no_recipe_lists_those_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no recipe resnet50_digits.yaml; there are .*dmnn20_cifar10.yaml"
    ):
        find_recipe("resnet50", "digits")
    with pytest.raises(FileNotFoundError, match="no recipe other.yaml"):
        find_recipe("resnet50", "digits", tmp_path / "other.yaml")
