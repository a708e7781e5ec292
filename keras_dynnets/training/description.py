"""The description of a run, which a training writes into its folder."""

import json
import os
from pathlib import Path

from keras_dynnets.training.data.datasets import Data
from keras_dynnets.training.data.identity import data_record
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.training.recipe import Recipe, recorded_recipe
from keras_dynnets.zoo.run_folders import DESCRIPTION, WEIGHTS, DataRecord, RunRecord, read_run

RECIPE = "recipe.json"
STARTED = ("log.csv", "backup", WEIGHTS, "results.json")  # what a training leaves after a while


def refuse_other_recipe(folder: Path, recipe: Recipe) -> None:
    """Refuses a folder that holds a run of another recipe.

    Args:
        folder: the run folder, which need not exist.
        recipe: the recipe of the training that is to begin.

    Raises:
        ValueError: the folder holds such a run.
    """
    marker = folder / RECIPE
    if marker.is_file() and not recorded_recipe(marker).trains_like(recipe):
        raise ValueError(
            f"{folder} holds a run of another recipe ({marker}); choose another folder with --out"
        )


def claim(
    folder: Path, recipe: Recipe, data: Data, data_dir: str | os.PathLike | None
) -> RunRecord | None:
    """Writes into a run folder what is trained, or refuses a folder that holds another run.

    Args:
        folder: the run folder. It is made if it does not exist.
        recipe: the recipe.
        data: the images.
        data_dir: where they were loaded from, as the user gave it.

    Returns:
        The description; None for a finished run, which stays as it is.

    Raises:
        ValueError: the folder holds a run on other images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    in_files = isinstance(data.train.images, ImageFiles)
    place = data_dir or (os.environ.get("TFDS_DATA_DIR") if in_files else None)
    _, height, width, channels = data.train.images.shape
    record = RunRecord(
        entry=recipe.entry,
        options=recipe.options,
        input_shape=(height, width, channels),
        classes=data.classes,
        seed=recipe.seed,
        recipe=recipe.model_dump(mode="json"),
        data=data_record(data, place),
        folder=folder,
    )
    if any((folder / name).exists() for name in STARTED):
        _refuse_other_data(folder, record, data)
    (folder / RECIPE).write_text(recipe.model_dump_json(indent=1) + "\n")
    if (folder / "results.json").is_file():
        return None
    write_description(record)
    return record


def started_data(folder: Path) -> DataRecord | None:
    """Gives the images that a run in a folder was started with; None where none was.

    A run that has not reached the end of an epoch is started anew, on any images. One of an earlier
    version, which did not record its images, has split them at random.

    Args:
        folder: the run folder.
    """
    described = (folder / DESCRIPTION).is_file() or (folder / "data.json").is_file()
    if not described or not any((folder / name).exists() for name in STARTED):
        return None
    unknown = DataRecord(name="", sha256="", images={}, splits={})
    return (read_run(folder).data if (folder / DESCRIPTION).is_file() else None) or unknown


def write_description(record: RunRecord) -> None:
    """Writes the description of a run into its folder, whole or not at all.

    Args:
        record: the description.
    """
    draft = record.folder / f".{DESCRIPTION}"
    draft.write_text(record.description() + "\n")
    os.replace(draft, record.folder / DESCRIPTION)


def _refuse_other_data(folder: Path, record: RunRecord, data: Data) -> None:
    """Refuses images that differ from those that a run in this folder was started with."""
    changed = ""
    if (folder / DESCRIPTION).is_file():
        before, now = read_run(folder).data, record.data
        changed = before.changes(now) if before and now else ""
    elif (folder / "data.json").is_file():  # of a run of an earlier version
        seen = json.loads((folder / "data.json").read_text())
        splits = ("train", "validation", "test")
        shapes = {name: list(getattr(data, name).images.shape) for name in splits}
        now = {"classes": list(data.classes), **shapes}
        keys = [key for key in now if seen.get(key) != now[key]]
        changed = "; ".join(f"{key}: {seen.get(key)} then, {now[key]} now" for key in keys)
    if changed:
        raise ValueError(
            f"{folder} holds a run on other data: since it was started, the images of {data.name} "
            f"have changed ({changed}); to train on the images as they are now, choose another "
            "folder with --out; to go on with this run or see its results, restore the images"
        )
