import json

import pytest
import yaml
from pydantic import ValidationError

from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.training import Recipe, find_recipe
from keras_dynnets.training.data.datasets import SOURCES
from keras_dynnets.training.recipe import FOLDER, recipe_names, recorded_recipe
from keras_dynnets.zoo.weights.published import records

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


def write(path, **fields):
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def header(name):
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("#")]


def test_all_files_are_recipes():
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.yaml" for name in recipe_names()}
    assert len(recipe_names()) > 30


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes(name):
    recipe = find_recipe("any", "any", name)
    assert name.startswith(f"{recipe.entry}_{recipe.data}")
    assert name == f"{recipe.entry}_{recipe.tag}"
    if name == f"{recipe.entry}_{recipe.data}":
        assert find_recipe(recipe.entry, recipe.data) == recipe
    assert (recipe.data in SOURCES) or recipe.variant == "paper"
    command = f"keras-dynnets train {recipe.entry} --data {recipe.data}"
    command += f" --recipe {name}" if recipe.variant else ""
    first, second, *_ = header(name)
    assert first.removesuffix(" --data-dir DATA") == command
    assert second.startswith("These are the settings of " if recipe.variant == "paper" else "Time:")
    assert set(recipe.options) <= set(ENTRIES[recipe.entry].options())


@pytest.mark.parametrize("record", records(), ids=lambda r: f"{r.entry}-{r.tag}")
def test_the_header_of_a_recipe_has_the_published_figures(record):
    text = " ".join(header(f"{record.entry}_{record.tag}"))
    assert f"Time: {record.seconds:,.0f} s on " in text
    accuracies = record.metrics.get("sub_models", {"": record.metrics["accuracy"]}).values()
    assert all(f"{100 * accuracy:.2f} %" in text for accuracy in accuracies)


def test_cifar10_recipes_train_both_alike():
    dynamic, plain = (find_recipe(name, "cifar10").model_dump() for name in ("dmnn20", "resnet20"))
    own = {"entry", "options", "family", "epochs"}  # the plain network is trained to its end
    assert {k: v for k, v in dynamic.items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }
    assert dynamic["options"]["target_rate"] == 0.7


def test_defaults():
    recipe = Recipe(**SMALLEST)
    assert (recipe.flip, recipe.translate, recipe.seed) == (True, 4, 0)
    assert (recipe.options, recipe.family, recipe.label_smoothing) == ({}, {}, 0)


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
        ("optimizer", "lion"),
        ("colour", "red"),
    ],
)
def test_a_bad_value_is_named(tmp_path, field, value):
    file = write(tmp_path / "mine.yaml", **{**SMALLEST, field: value})
    with pytest.raises(ValueError, match=rf"mine.yaml is not a valid recipe: [\s\S]*{field}"):
        find_recipe("dmnn20", "digits", file)


@pytest.mark.parametrize(
    "field, value",
    [
        ("target_falls_from_epoch", -1),
        ("target_reached_epoch", 0.5),
        ("noise_until_epoch", -1),
        ("colour", "red"),
    ],
)
def test_a_bad_value_of_the_family_is_named(tmp_path, field, value):
    file = write(tmp_path / "mine.yaml", **SMALLEST, family={field: value})
    message = rf"mine.yaml is not a valid recipe: the section family .* dmnn20: [\s\S]*{field}"
    with pytest.raises(ValueError, match=message):
        find_recipe("dmnn20", "digits", file)


def test_fields_of_another_family_are_refused(tmp_path):
    fields = {**SMALLEST, "entry": "resnet20", "family": {"noise_until_epoch": 1}}
    with pytest.raises(ValueError, match="resnet20 has no recipe fields of its own, so remove"):
        find_recipe("resnet20", "digits", write(tmp_path / "mine.yaml", **fields))


def test_an_unknown_entry_is_named(tmp_path):
    file = write(tmp_path / "mine.yaml", **{**SMALLEST, "entry": "dmn20"})
    with pytest.raises(ValueError, match="mine.yaml is not a valid recipe: no model 'dmn20'"):
        find_recipe("dmn20", "digits", file)


def test_a_missing_value_is_named(tmp_path):
    fields = {k: v for k, v in SMALLEST.items() if k != "epochs"}
    file = write(tmp_path / "mine.yaml", **fields)
    with pytest.raises(ValueError, match=r"epochs\s+Field required"):
        find_recipe("dmnn20", "digits", file)


@pytest.mark.parametrize("text", ["", "just words", "a: [1", "- 1\n- 2"])
def test_a_file_that_is_no_recipe(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="mine.yaml is not a valid recipe"):
        find_recipe("dmnn20", "digits", file)


def test_a_file_of_one_s_own(tmp_path):
    file = write(tmp_path / "mine.yaml", **SMALLEST)
    assert find_recipe("dmnn20", "digits", file) == Recipe(**SMALLEST)
    assert find_recipe("dmnn20", "digits", str(file)) == Recipe(**SMALLEST)


def test_no_recipe_lists_those_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no recipe resnet50_digits.yaml; there are .*dmnn20_cifar10,"
    ):
        find_recipe("resnet50", "digits")
    with pytest.raises(FileNotFoundError, match="no recipe other.yaml"):
        find_recipe("resnet50", "digits", tmp_path / "other.yaml")


# ---- bases


def test_a_recipe_has_the_fields_of_its_base(tmp_path):
    base = find_recipe("dmnn20", "cifar10")
    file = write(tmp_path / "mine.yaml", base="dmnn20_cifar10", seed=7, options={"target_rate": 1})
    expected = base.model_copy(update={"seed": 7, "options": {"target_rate": 1}})
    assert find_recipe("dmnn20", "cifar10", file) == expected


def test_a_base_beside_the_file_and_a_base_of_a_base(tmp_path):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "first.yaml", **SMALLEST)
    write(tmp_path / "folder" / "second.yaml", base="../first.yaml", epochs=9)
    third = write(tmp_path / "third.yaml", base="folder/second.yaml", seed=5)
    expected = Recipe(**SMALLEST).model_copy(update={"epochs": 9, "seed": 5})
    assert find_recipe("dmnn20", "digits", third) == expected


def test_a_missing_base_is_named_with_its_reader(tmp_path):
    file = write(tmp_path / "mine.yaml", base="none")
    with pytest.raises(FileNotFoundError, match="no recipe none.yaml, which .*mine.yaml names"):
        find_recipe("dmnn20", "digits", file)


def test_a_circle_of_bases_is_refused(tmp_path):
    first = write(tmp_path / "first.yaml", **SMALLEST, base="second.yaml")
    write(tmp_path / "second.yaml", base="../" + tmp_path.name + "/first.yaml")
    with pytest.raises(ValueError, match="its own base: .*first.yaml -> .*second.yaml -> .*first"):
        find_recipe("dmnn20", "digits", first)


# ---- runs of earlier versions

OLD = {
    **SMALLEST,
    "variant": "",
    "target_falls_from_epoch": 0,
    "target_reached_epoch": 0,
    "noise_until_epoch": None,
}


def old_run(folder, **changes):
    (folder / "recipe.json").write_text(json.dumps({**OLD, **changes}))
    return folder / "recipe.json"


def test_an_earlier_recipe_of_the_family(tmp_path):
    schedule = {"target_falls_from_epoch": 2, "target_reached_epoch": 5, "noise_until_epoch": None}
    recipe = recorded_recipe(old_run(tmp_path, **schedule))
    assert recipe == Recipe(**SMALLEST, family=schedule)
    now = {"target_reached_epoch": 5, "target_falls_from_epoch": 2}
    assert recipe.trains_like(Recipe(**SMALLEST, family=now))
    assert not recipe.trains_like(Recipe(**SMALLEST))
    assert not recipe.trains_like(Recipe(**{**SMALLEST, "epochs": 3}, family=now))


def test_an_earlier_recipe_of_the_family_with_its_defaults(tmp_path):
    assert recorded_recipe(old_run(tmp_path)).trains_like(Recipe(**SMALLEST))


def test_an_earlier_recipe_of_another_family(tmp_path):
    plain = {**SMALLEST, "entry": "resnet20"}
    assert recorded_recipe(old_run(tmp_path, entry="resnet20")) == Recipe(**plain)


@pytest.mark.parametrize("field, value", [("noise_until_epoch", 3), ("colour", None)])
def test_an_earlier_recipe_with_a_field_that_does_not_fit(tmp_path, field, value):
    file = old_run(tmp_path, entry="resnet20", **{field: value})
    with pytest.raises(ValueError, match=rf"recipe.json is not a valid recipe: [\s\S]*{field}"):
        recorded_recipe(file)


def test_todays_recipe_json(tmp_path):
    recipe = Recipe(**SMALLEST, family={"noise_until_epoch": 1})
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    assert recorded_recipe(tmp_path / "recipe.json") == recipe
