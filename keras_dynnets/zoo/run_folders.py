"""Run folders: what a training left beside its weights says which network they are of.

`keras_dynnets.training` writes the description `run.json`; this file reads it, so that a run folder
can stand wherever the name of a network stands.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from keras_dynnets.core.registry import ENTRIES

DESCRIPTION = "run.json"
WEIGHTS = "model.weights.h5"
VERSION = 1
PARTS = ("test", "validation")  # the results on images
SplitRule = Literal["by class", "at random"]


class DataRecord(BaseModel):
    """The images of a run, so that other images are noticed later.

    Attributes:
        name: name of the data set.
        folder: where its files lay; None where the default folder was used.
        sha256: hash of all images: the relative path, the size and the label of each file, or the
            content and the label of each image that is no file.
        images: number of images and start of their hash, for each folder of a class.
        splits: number of images and hash of "train", "validation" and "test".
        drawn: whether the test images were drawn from the training folder by the seed.
        split_rule: how images were drawn from a folder of images: "by class", or "at random" by
            earlier versions, and from any other data set.
        skipped: files that were left out because they could not be read, relative to the folder.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    folder: str | None = None
    sha256: str
    images: dict[str, tuple[int, str]]
    splits: dict[str, tuple[int, str]]
    drawn: bool = False
    split_rule: SplitRule = "at random"
    skipped: tuple[str, ...] = ()

    def changes(self, now: "DataRecord") -> str:
        """Says how images differ from those of this record; empty if they do not.

        Args:
            now: the record of the images as they are now.
        """
        if self.sha256 == now.sha256:
            return ""
        before, after = self.images, now.images
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        lines = []
        for key in keys:
            (old, _), (new, _) = (side.get(key, (0, "")) for side in (before, after))
            same = f"{new} images, not the same"
            lines.append(f"{key}: " + (same if old == new else f"{old} images then, {new} now"))
        more = f"; and {len(lines) - 6} more" if len(lines) > 6 else ""
        return "; ".join(lines[:6]) + more


class RunRecord(BaseModel):
    """What a run folder says of the network that was trained in it.

    Attributes:
        version: version of the description.
        entry: name of the network in the zoo.
        options: further arguments that the network is built with.
        input_shape: shape of an image, (height, width, channels).
        classes: names of the classes, in the order of the logits.
        normalisation: what has to be done to an image before the network takes it.
        seed: seed of the training and of the choice of held-out images.
        recipe: all fields of the training recipe.
        data: the images; None for a run of a version that did not record them.
        results: what the training reached, once it is finished.
        folder: the run folder. It is not part of the description.
    """

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    entry: str
    options: dict[str, Any] = {}
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    normalisation: str = "none: the network takes values in [0, 255] and normalises them itself"
    seed: int = 0
    recipe: dict[str, Any]
    data: DataRecord | None = None
    results: dict[str, Any] | None = None
    folder: Path = Path()

    @property
    def weights(self) -> Path:
        """The path of the weights file."""
        return self.folder / WEIGHTS

    @property
    def validation(self) -> Mapping[str, Any]:
        """Results on the images that were set aside for validation; empty before the end."""
        return (self.results or {}).get("validation", {})

    def description(self) -> str:
        """Gives the record as the JSON text that stands in `run.json`."""
        return self.model_dump_json(indent=1, exclude={"folder"})

    def short_description(self) -> str:
        """Gives the record as JSON text without confusion matrices, for a file of a model."""
        matrices = {part: {"confusion"} for part in self.results or () if part in PARTS}
        return self.model_dump_json(exclude={"folder": True, "results": matrices})

    def checked_weights(self) -> Path:
        """Gives the path of the weights file, or refuses a run without one.

        Raises:
            FileNotFoundError: the training has not reached its end.
        """
        if not self.weights.is_file():
            raise FileNotFoundError(
                f"{self.folder} holds no finished run (no {WEIGHTS}); give the command that "
                "trained it again, which goes on where it stopped"
            )
        return self.weights


def run_folder(name: str | os.PathLike) -> Path | None:
    """Gives the run folder that stands where the name of a network can stand.

    Args:
        name: the name of a network, or the path of a folder. A text that is the name of a network
            is one, whatever folders there are; "./NAME" is a folder.

    Returns:
        The path; None for what is no path of a folder.

    Raises:
        FileNotFoundError: a path is given and no folder is there, or one that holds no run.
    """
    if not isinstance(name, (str, os.PathLike)) or name in ENTRIES or name == "":
        return None
    path = Path(name).expanduser()
    if not path.is_dir():
        if isinstance(name, str) and os.sep not in name and "/" not in name:
            return None
        raise FileNotFoundError(
            f"there is no run folder {path}; give the folder that `keras-dynnets train` wrote, or "
            "the name of a network"
        )
    if not _described(path):
        raise FileNotFoundError(
            f"{path} holds no run (no {DESCRIPTION}); give the folder that `keras-dynnets train` "
            "wrote, or the name of a network"
        )
    return path


def read_run(folder: str | os.PathLike) -> RunRecord:
    """Reads what a run folder says of its network.

    Args:
        folder: the run folder. One of a version that wrote no `run.json` is read from its
            `recipe.json` and `data.json`.

    Returns:
        The record.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: the description is damaged or of a later version.

    Example:
        >>> zoo.read_run("runs/photos").classes
        ('cat', 'dog')
    """
    folder = Path(folder).expanduser()
    if not _described(folder):
        raise FileNotFoundError(f"{folder} holds no run (no {DESCRIPTION})")
    file = folder / DESCRIPTION
    if not file.is_file():
        return _of_an_earlier_version(folder)
    try:
        record = RunRecord.model_validate({**json.loads(file.read_text()), "folder": folder})
    except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        raise ValueError(f"{file} is not the description of a run: {_short(error)}") from error
    if record.version > VERSION:
        raise ValueError(
            f"{file} is of version {record.version}, and this keras_dynnets reads version "
            f"{VERSION}: update keras_dynnets (pip install -U keras-dynnets)"
        )
    return record


def run_of_weights(weights: str | os.PathLike | None) -> RunRecord | None:
    """Gives the run whose folder a weights file lies in; None for any other file.

    Args:
        weights: the path of a weights file, or a tag.
    """
    path = Path(weights or "").expanduser()
    if path.name != WEIGHTS or not _described(path.parent):
        return None
    return read_run(path.parent)


def _described(folder: Path) -> bool:
    old = (folder / "recipe.json").is_file() and (folder / "data.json").is_file()
    return old or (folder / DESCRIPTION).is_file()


def _of_an_earlier_version(folder: Path) -> RunRecord:
    """Reads a run that has no `run.json`."""
    results = folder / "results.json"
    try:
        recipe = json.loads((folder / "recipe.json").read_text())
        data = json.loads((folder / "data.json").read_text())
        return RunRecord(
            entry=recipe["entry"],
            options=recipe.get("options", {}),
            input_shape=tuple(data["train"][1:]),
            classes=data["classes"],
            seed=recipe.get("seed", 0),
            recipe=recipe,
            results=json.loads(results.read_text()) if results.is_file() else None,
            folder=folder,
        )
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(
            f"{folder} holds no readable run (recipe.json, data.json): {_short(error)}"
        ) from error


def _short(error: Exception) -> str:
    """Gives the text of an error in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
