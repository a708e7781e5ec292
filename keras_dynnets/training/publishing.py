"""Publishes the weights of a finished run: the file, its record and the texts about it."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.measure.counting import count
from keras_dynnets.training.data.datasets import SOURCES, Data, load_data
from keras_dynnets.training.evaluation import evaluate
from keras_dynnets.training.recipe import (
    Recipe,
    find_recipe,
    recipe_names,
    recorded_recipe,
)
from keras_dynnets.training.recipe_images import recipe_data
from keras_dynnets.zoo.run_folders import DESCRIPTION, read_run
from keras_dynnets.zoo.weights import published as published_weights
from keras_dynnets.zoo.weights.cache import sha256
from keras_dynnets.zoo.weights.cards import write, write_cards
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index, read_index

FLOAT16_MAX = np.finfo("float16").max
LICENSE = "Apache-2.0"  # of published weights; the code has the same licence


def publish(
    folder: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    published: str | os.PathLike | None = None,
) -> WeightsRecord:
    """Publishes the weights of a finished run.

    The run is evaluated again, and its weights are published only if the test metrics are those
    that the run recorded. The published file stores the values as float16. The metrics of its
    record and its card are measured on that file.

    Args:
        folder: the run folder that `train` has filled.
        data_dir: where the data lies, see `load_data`; None for where it lay in training.
        published: the folder of published weights, with `index.json`. The default is the folder
            `zoo` of the checkout.

    Returns:
        The record of the weights. It replaces a record with the same entry and tag, whose file is
        removed.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: the origin and licence of the data set are not known.
        RuntimeError: the evaluation gives other metrics than the run recorded.

    Example:
        >>> publish("runs/resnet20-cifar10").metrics["accuracy"]
    """
    folder = Path(folder)
    if not (folder / "results.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run (no results.json); train it to its end first"
        )
    recipe = recorded_recipe(folder / "recipe.json")
    results = json.loads((folder / "results.json").read_text())
    if recipe.data not in SOURCES:
        raise ValueError(
            f"the origin and licence of the data set {recipe.data} are not known; weights can be "
            f"published that were trained on {', '.join(SOURCES)}"
        )
    described = read_run(folder).data if (folder / DESCRIPTION).is_file() else None
    if described is not None and described.name == recipe.data:
        data_dir = data_dir or described.folder
    data = recipe_data(recipe, data_dir)
    shape = data.test.images.shape[1:]
    form = {"num_classes": len(data.classes), "input_shape": shape, **recipe.options}
    trained = zoo.load(recipe.entry, folder / "model.weights.h5", **form)
    _check_repeats(evaluate(trained, data.test), results["test"])
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.weights.h5"
        trained.save_weights(file)  # unlike the run's own file without the optimiser's values
        _store_as_float16(file)
        model = zoo.load(recipe.entry, file, **form)
        metrics = evaluate(model, data.test)
        record = _record(file, recipe, data, model, metrics, results)
        _add(record, file, Path(published or published_weights.PUBLISHED))
    return record


def _check_repeats(metrics: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Refuses test metrics that differ from those that the run recorded."""
    for name, value in metrics.items():
        if name not in recorded:  # a metric that the version of the run did not have
            continue
        pairs = zip(keras.tree.flatten(value), keras.tree.flatten(recorded[name]), strict=True)
        if any(abs(now - then) > 1e-6 * abs(now) for now, then in pairs):
            raise RuntimeError(
                f"the metric {name} does not repeat: the run recorded {recorded[name]}, now it is "
                f"{value}; give the data that the run was trained with, or train it again"
            )


def _store_as_float16(path: Path) -> None:
    """Stores the values of a weights file as float16.

    A tensor with a value that is too large for float16 stays as it is.
    """
    import h5py

    with h5py.File(path, "a") as file:
        names = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        for name in names:
            values = file[name][()]
            if values.dtype != np.float32 or np.abs(values).max(initial=0) > FLOAT16_MAX:
                continue
            attributes = dict(file[name].attrs)
            del file[name]
            file.create_dataset(name, data=values.astype("float16")).attrs.update(attributes)
    packed = path.with_suffix(".packed")  # in `path`, the deleted values still take up space
    with h5py.File(path) as file, h5py.File(packed, "w") as new:
        new.attrs.update(file.attrs)
        for name in file:
            file.copy(name, new)
    os.replace(packed, path)


def _record(
    file: Path,
    recipe: Recipe,
    data: Data,
    model: keras.Model,
    metrics: Mapping[str, Any],
    results: Mapping[str, Any],
) -> WeightsRecord:
    """Makes the record of a weights file.

    Args:
        file: the file.
        recipe: the recipe of its training.
        data: the data set.
        model: the model with the weights of the file.
        metrics: the test metrics of this model.
        results: the results that the run recorded.
    """
    digest, command = sha256(file), f"{recipe.entry} --data {recipe.data}"
    return WeightsRecord(
        entry=recipe.entry,
        tag=recipe.tag,
        file=f"{recipe.entry}-{recipe.tag}-{digest[:8]}.weights.h5",
        sha256=digest,
        bytes=file.stat().st_size,
        params=sum(math.prod(w.shape) for w in model.trainable_weights),
        macs=count(model).macs,
        classes=data.classes,
        input_shape=data.test.images.shape[1:],
        options=recipe.options,
        metrics=dict(metrics),
        validation=results.get("validation", {}),
        data_source=SOURCES[recipe.data],
        license=LICENSE,
        evaluate=f"keras-dynnets evaluate {command}"
        + (f" --weights {recipe.tag}" if recipe.variant else ""),
        train=_train_command(recipe),
        recipe=recipe.model_dump(mode="json"),
        seconds=results["seconds"],
        hardware=results["hardware"],
        versions=results["versions"],
    )


def _train_command(recipe: Recipe) -> str:
    """Gives the command that trains by a recipe, with what differs from the package's recipe."""
    command = f"keras-dynnets train {recipe.entry} --data {recipe.data}"
    name = f"{recipe.entry}_{recipe.tag}"
    if recipe.variant:
        command += f" --recipe {name}"
    if name in recipe_names():
        usual = find_recipe(recipe.entry, recipe.data, name)
        for field in ("epochs", "seed"):
            if getattr(recipe, field) != getattr(usual, field):
                command += f" --{field} {getattr(recipe, field)}"
    return command


def evaluate_again(
    data_dir: str | os.PathLike | None = None,
    published: str | os.PathLike | None = None,
    progress: Callable[[WeightsRecord], Any] = lambda record: None,
) -> list[WeightsRecord]:
    """Evaluates all published weights on their test sets and records what they reach.

    For when the data has changed: the index, the cards and the tables get the new figures.

    Args:
        data_dir: where the data lies, see `load_data`.
        published: as for `publish`.
        progress: called with every new record.

    Returns:
        The new records.
    """
    folder = Path(published or published_weights.PUBLISHED)
    records, tests = [], {}
    for record in read_index(folder):
        name, (size, _, channels) = record.recipe["data"], record.input_shape
        seed = record.recipe.get("seed", 0)  # it draws the test images where a data set has none
        key = (name, seed, size, channels)
        if key not in tests:
            tests[key] = load_data(
                name, data_dir, seed=seed, image_size=size, channels=channels
            ).test
        metrics = evaluate(zoo.load(record.entry, record.tag), tests[key])
        records.append(record.model_copy(update={"metrics": metrics}))
        progress(records[-1])
    write(folder / "index.json", format_index(records))
    write_cards(folder)
    return records


def _add(record: WeightsRecord, file: Path, published: Path) -> None:
    """Copies a weights file into the folder of published weights and writes the index and cards."""
    place = published / record.entry
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, place / record.file)
    kept = []
    for other in read_index(published):
        if (other.entry, other.tag) != (record.entry, record.tag):
            kept.append(other)
        elif other.file != record.file:
            (place / other.file).unlink(missing_ok=True)
    listed = sorted([*kept, record], key=lambda r: (r.entry, r.tag))
    write(published / "index.json", format_index(listed))
    write_cards(published)
