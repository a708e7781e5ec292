"""A finished run to the shelf: the weights, their record and what is written about them."""

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.measure.counting import count
from keras_dynnets.training.data.datasets import SOURCES
from keras_dynnets.training.evaluate import evaluate
from keras_dynnets.training.recipe import Recipe
from keras_dynnets.training.run import recipe_data
from keras_dynnets.zoo.weights.cache import sha256
from keras_dynnets.zoo.weights.cards import write, write_cards
from keras_dynnets.zoo.weights.published import PUBLISHED
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index, read_index

LICENSE = "Apache-2.0"  # of what is published, as of the code


def publish(folder, data_dir=None, published=PUBLISHED):
    """Puts the weights of a run on the shelf, once their evaluation has repeated.

    The file has them as float16; the figures of the record and the card are measured on it.

    Args:
        folder: the run folder that `train` left.
        data_dir: see `load_data`.
        published: the folder with `index.json`.

    Returns:
        The new `WeightsRecord`. A record with the same entry and tag is replaced, its file removed.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: the data set is none of those with a known source.
        RuntimeError: the evaluation gives other figures than the run recorded.
    """
    folder = Path(folder)
    if not (folder / "results.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run (no results.json); train it to its end first"
        )
    recipe = Recipe.model_validate_json((folder / "recipe.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    if recipe.data not in SOURCES:
        raise ValueError(
            f"{recipe.data} has no known source and licence; what is published learned from {', '.join(SOURCES)}"
        )
    data = recipe_data(recipe, data_dir)
    shape = data.test.images.shape[1:]
    form = dict(num_classes=len(data.classes), input_shape=shape, **recipe.options)
    trained = zoo.load(recipe.entry, folder / "model.weights.h5", **form)
    _check_repeats(evaluate(trained, data.test), results["test"])
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "model.weights.h5"  # as the run's, without the optimiser's values
        trained.save_weights(weights)
        _halve(weights)
        halved = zoo.load(recipe.entry, weights, **form)
        return _publish_file(
            weights, recipe, data, halved, evaluate(halved, data.test), results, published
        )


def _check_repeats(metrics, recorded):
    """Refuses figures on the test set that are not those that the run recorded."""
    for name, value in metrics.items():
        pairs = zip(keras.tree.flatten(value), keras.tree.flatten(recorded[name]), strict=True)
        if any(abs(now - then) > 1e-6 * abs(now) for now, then in pairs):
            raise RuntimeError(
                f"{name} does not repeat: the run recorded {recorded[name]}, now it is {value}"
            )


def _halve(path):
    """Stores the values of a weights file as float16, but those of a tensor with values that float16 cannot hold."""
    import h5py

    with h5py.File(path, "a") as file:
        tensors = []
        file.visititems(
            lambda name, item: tensors.append(name) if isinstance(item, h5py.Dataset) else None
        )
        for name in tensors:
            values = file[name][()]
            if (
                values.dtype != np.float32
                or np.abs(values).max(initial=0) > np.finfo("float16").max
            ):
                continue
            attributes = dict(file[name].attrs)
            del file[name]
            file.create_dataset(name, data=values.astype("float16")).attrs.update(attributes)
    packed = path.with_suffix(".packed")  # HDF5 does not give back the room of what was deleted
    with h5py.File(path) as file, h5py.File(packed, "w") as new:
        new.attrs.update(file.attrs)
        for name in file:
            file.copy(name, new)
    os.replace(packed, path)


def _publish_file(weights, recipe, data, model, metrics, results, published):
    """Copies the weights to their place and writes the index and the cards; returns the record."""
    digest = sha256(weights)
    record = WeightsRecord(
        entry=recipe.entry,
        tag=recipe.tag,
        file=f"{recipe.entry}-{recipe.tag}-{digest[:8]}.weights.h5",
        sha256=digest,
        bytes=weights.stat().st_size,
        params=sum(math.prod(w.shape) for w in model.trainable_weights),
        macs=count(model).macs,
        classes=data.classes,
        input_shape=data.test.images.shape[1:],
        options=recipe.options,
        metrics=metrics,
        validation=results.get("validation", {}),
        data_source=SOURCES[recipe.data],
        license=LICENSE,
        evaluate=f"keras-dynnets evaluate {recipe.entry} --data {recipe.data}"
        + (f" --weights {recipe.tag}" if recipe.variant else ""),
        train=f"keras-dynnets train {recipe.entry} --data {recipe.data}"
        + (f" --recipe {recipe.entry}_{recipe.tag}" if recipe.variant else ""),
        recipe=recipe.model_dump(),
        seconds=results["seconds"],
        hardware=results["hardware"],
        versions=results["versions"],
    )
    place = published / recipe.entry
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, place / record.file)
    kept = []
    for other in read_index(published):
        if (other.entry, other.tag) != (record.entry, record.tag):
            kept.append(other)
        elif other.file != record.file:
            (place / other.file).unlink(missing_ok=True)
    listed = sorted([*kept, record], key=lambda r: (r.entry, r.tag))
    write(published / "index.json", format_index(listed))
    write_cards(published)
    return record
