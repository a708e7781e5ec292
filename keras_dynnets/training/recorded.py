"""The images of a run that was recorded in its folder, for its evaluation."""

import os
import warnings
from pathlib import Path
from typing import Any

from keras_dynnets.training.data.datasets import Data
from keras_dynnets.training.data.identity import data_record
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.training.recipe import Recipe, recipe_of_fields
from keras_dynnets.training.recipe_images import recipe_data
from keras_dynnets.zoo.run_folders import RunRecord, read_run


class ChangedDataWarning(UserWarning):
    """Warns that the images are not those that a run was trained on."""


def run_data(
    run: RunRecord | str | os.PathLike,
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Data:
    """Loads the images of a run: of the same size and split by the same seed as in its training.

    Args:
        run: a run, or the path of its folder.
        data: name of another data set with the same classes; None for the run's own.
        data_dir: where the data lies now, see `load_data`; None for where it lay in training.

    Returns:
        The data set, whose test images are those that the run was not trained on.

    Raises:
        FileNotFoundError: there is no run, or its images are not where they were.
        ValueError: the images have other classes or another size than the network, or they have
            changed so that the held-out ones cannot be told from those of the training.

    Example:
        >>> evaluate(zoo.load("runs/photos"), run_data("runs/photos").test)["accuracy"]
    """
    run = run if isinstance(run, RunRecord) else read_run(run)
    recipe = recipe_of_fields(run.recipe, f"the recipe of {run.folder}")
    name = data or recipe.data
    if data_dir is None and run.data is not None and name == recipe.data:
        data_dir = run.data.folder
        if data_dir and "://" not in data_dir and not Path(data_dir).exists():
            raise FileNotFoundError(
                f"the images of {run.folder} lay in {data_dir}, which is not there any more; say "
                "where they are with --data-dir (data_dir)"
            )
    recipe = recipe.model_copy(update={"data": name, "image_size": run.input_shape[:2]})
    loaded = _loaded(run, recipe, data_dir)
    source = f"{name} ({data_dir})" if data_dir else name
    check_fits(str(run.folder), run.classes, run.input_shape, source, loaded)
    if run.data is not None and len(loaded.train):  # a folder of test images is a new one
        _check_held_out(run, loaded, source, data_dir)
    return loaded


def _loaded(run: RunRecord, recipe: Recipe, data_dir: str | os.PathLike | None) -> Data:
    """Loads images as the run did; it left out files of its own folder, and of no other one."""
    before = run.data
    rule, skip = (before.split_rule, before.skipped) if before else ("at random", ())
    loaded = recipe_data(recipe, data_dir, skip, rule, run.classes)
    if before is None or not skip or loaded.folder is None:
        return loaded
    now = data_record(loaded, loaded.folder.root)
    same = Path(now.folder or "").resolve() == Path(before.folder or "").resolve()
    if same or now.sha256 == before.sha256:  # a folder that was moved holds the same images
        return loaded
    return recipe_data(recipe, data_dir, (), rule, run.classes)


def check_fits(
    weights: str, classes: tuple[str, ...], input_shape: Any, source: str, data: Data
) -> None:
    """Refuses images that a trained network is not for.

    Args:
        weights: what the weights are, for the message.
        classes: names of the classes that they tell apart.
        input_shape: shape of an image that they were trained on, (height, width, channels).
        source: what the images are, for the message.
        data: the images.

    Raises:
        ValueError: the images are of other classes or of another size.
    """
    if tuple(classes) != tuple(data.classes):
        ours, theirs = _listed(classes, data.classes), _listed(data.classes, classes)
        raise ValueError(
            f"the weights of {weights} tell {ours} apart; {source} has {theirs}; give images of "
            "the same classes, in folders of the same names, or weights trained on these classes"
        )
    found = tuple(data.test.images.shape[1:])
    if found != tuple(input_shape):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (input_shape, found))
        raise ValueError(
            f"the weights of {weights} are for images of {ours}; those of {source} are {theirs}; "
            "give images of the same size, or weights trained on this size"
        )


def _listed(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """Lists the names of classes; of many, only some, first those that the others lack."""
    if len(names) <= 12:
        return ", ".join(names)
    own = [name for name in names if name not in set(others)]
    chosen = (own or list(names))[:5]
    return f"{', '.join(chosen)} and {len(names) - len(chosen)} others"


def _check_held_out(
    run: RunRecord, loaded: Data, source: str, data_dir: str | os.PathLike | None
) -> None:
    """Warns of images that have changed; refuses them if test images may have been trained on."""
    before = run.data
    in_files = isinstance(loaded.train.images, ImageFiles)
    now = data_record(loaded, data_dir or (os.environ.get("TFDS_DATA_DIR") if in_files else None))
    if before is None or not (changed := before.changes(now)):
        return
    if now.drawn and now.splits["test"] != before.splits["test"]:
        raise ValueError(
            f"the images that {run.folder} held out for testing cannot be told from those that it "
            f"was trained on, because {source} is not as it was ({changed}); restore the images, "
            "or give a folder that holds test/CLASS alone (--data-dir)"
        )
    warnings.warn(
        f"{source} is not as it was when {run.folder} was trained: {changed}",
        ChangedDataWarning,
        stacklevel=3,
    )
