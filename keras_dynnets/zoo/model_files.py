"""Saved models: a `.keras` file stands where the name of a network stands."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from keras_dynnets.core.class_names import ATTRIBUTE
from keras_dynnets.zoo.run_folders import RunRecord

SUFFIX = ".keras"


def model_file(name: str | os.PathLike) -> Path | None:
    """Gives the `.keras` file that stands where the name of a network can stand.

    Args:
        name: the name of a network, or a path.

    Returns:
        The path; None for what is no path of a `.keras` file.

    Raises:
        FileNotFoundError: the path is of such a file, and none is there.
    """
    if not isinstance(name, (str, os.PathLike)) or not str(name).lower().endswith(SUFFIX):
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a file that model.save wrote")
    return path


def load_model_file(path: Path) -> Any:
    """Loads a `.keras` file, whose model is not compiled.

    Args:
        path: of the file.

    Raises:
        ValueError: Keras cannot load it.
    """
    import keras

    from keras_dynnets import families

    families.register_classes()
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # a damaged file can fail anywhere in Keras and h5py
        reason = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is no model that Keras loads here: {reason[0]}") from error


def names_in_file(path: Path) -> tuple[str, ...] | None:
    """Reads the names of the classes from a `.keras` file, without loading the model.

    Args:
        path: of the file.

    Returns:
        The names in the order of the logits; None where the file has none, such as that of a
        model that was trained on after it was loaded, or of a plain model without names.

    Raises:
        ValueError: it is no `.keras` file.
    """
    return tuple(_known_in(path).get("names", ())) or None


def run_in_file(path: Path) -> RunRecord | None:
    """Reads from a `.keras` file which run its model was loaded from.

    Args:
        path: of the file, which takes the place of the run folder in the record.

    Returns:
        The record; None for a model of no run, or one that was trained on since.

    Raises:
        ValueError: it is no `.keras` file.
    """
    described = _known_in(path).get("run")
    if not isinstance(described, str):
        return None
    return RunRecord(**{**json.loads(described), "folder": path})


def _known_in(path: Path) -> dict[str, Any]:
    """Reads what the config in a `.keras` file says of classes and run; empty if nothing.

    A model of another package may have a value of the same name and another form.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no file that model.save wrote ({error})") from error
    for key in ("config", ATTRIBUTE):
        config = config.get(key) if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("names"), list):
        return {}
    return config
