"""The images that a recipe asks for, checked before a network is trained on them."""

import os
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from keras_dynnets.core.registry import find
from keras_dynnets.training.data.checking import FolderReport, check_data
from keras_dynnets.training.data.datasets import Data, load_data
from keras_dynnets.training.description import started_data
from keras_dynnets.training.recipe import Recipe
from keras_dynnets.zoo.run_folders import SplitRule


class FolderWarning(UserWarning):
    """Warns of what may be wrong with a folder of images."""


def recipe_data(
    recipe: Recipe,
    data_dir: str | os.PathLike | None = None,
    skip: Collection[str] = (),
    split_rule: SplitRule = "by class",
    classes: Sequence[str] | None = None,
) -> Data:
    """Loads the data set of a recipe.

    Images in files are read in the size that the recipe gives, or else in the entry's own.

    Args:
        recipe: the recipe.
        data_dir: where the data lies, see `load_data`.
        skip: files to leave out, see `load_data`.
        split_rule: how held-out images are drawn, see `load_data`.
        classes: names of the classes of a folder of test images alone, see `load_data`.

    Returns:
        The data set.

    Raises:
        ValueError: see `load_data`.
        RuntimeError: see `load_data`.
    """
    height, width, channels = find(recipe.entry).input_shape
    return load_data(
        recipe.data,
        data_dir,
        recipe.validation,
        recipe.seed,
        recipe.image_size or (height, width),
        channels,
        skip,
        split_rule,
        classes,
    )


def warn_of(report: FolderReport) -> None:
    """Warns of what was left out of a folder of images, and of what may be wrong with it.

    Args:
        report: what a check has found.
    """
    lines = [f"left out: {report.left_out}"] if report.left_out else []
    if report.unreadable:
        lines.append(f"going on without files that cannot be read:\n{report.faults}")
    for line in (*lines, *report.warnings):
        warnings.warn(f"{report.folder}: {line}", FolderWarning, stacklevel=3)


def checked_data(
    recipe: Recipe,
    folder: Path,
    data_dir: str | os.PathLike | None = None,
    skip_bad: bool = False,
    show: Callable[[FolderReport], Any] = warn_of,
) -> Data:
    """Loads the images to train on, and checks the files of a folder of images.

    A run that was started before goes on with the images that it was started with: without the
    files that it left out, and split by the rule of that time.

    Args:
        recipe: the recipe.
        folder: the run folder.
        data_dir: where the data lies, see `load_data`.
        skip_bad: whether to leave out files that cannot be read.
        show: called with the report of the check.

    Returns:
        The data set.

    Raises:
        ValueError: there are no images to train on, or files cannot be read; see also `load_data`.
    """
    before = started_data(folder)
    rule = before.split_rule if before else "by class"
    skip = before.skipped if before else ()
    data = recipe_data(recipe, data_dir, skip, rule)
    if data.folder is None or (folder / "results.json").is_file():
        return data
    if not len(data.train):
        raise ValueError(
            f"{data.folder.root} holds test images alone; put images to train on into train/CLASS"
        )
    report = check_data(data)
    if report.unreadable and not skip_bad:
        raise ValueError(
            f"{len(report.unreadable)} of the {report.total} images in {report.folder} cannot be "
            "read; replace or remove these files, or go on without them by --skip-bad "
            f"(skip_bad=True):\n{report.faults}"
        )
    show(report)
    if report.unreadable:
        data = recipe_data(recipe, data_dir, (*skip, *report.unreadable), rule)
    return data
