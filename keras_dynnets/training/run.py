"""Trains by a recipe and fills a run folder with weights, a log and results."""

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.core.dynamic import TrainingPlan, interface
from keras_dynnets.training.class_weights import weights_of_classes
from keras_dynnets.training.data.batches import Batches, InOrder, OneHot
from keras_dynnets.training.data.checking import FolderReport
from keras_dynnets.training.data.datasets import Data
from keras_dynnets.training.data.image_cache import cached
from keras_dynnets.training.description import claim, refuse_other_recipe, write_description
from keras_dynnets.training.evaluation import evaluate
from keras_dynnets.training.optimizer import compile_for
from keras_dynnets.training.recipe import Recipe
from keras_dynnets.training.recipe_images import checked_data, warn_of

MATRIX = 100  # classes up to which a confusion matrix is recorded


def train(
    recipe: Recipe,
    folder: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    steps: int | None = None,
    verbose: int = 2,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    skip_bad: bool = False,
    show: Callable[[FolderReport], Any] = warn_of,
) -> dict[str, Any]:
    """Trains an entry of the zoo by a recipe and evaluates it.

    The run folder gets `run.json`, which says what is trained on which images, and `recipe.json`;
    `log.csv`, with a row for each epoch, and the folder `backup` while the training runs. At the
    end it gets `model.weights.h5` and `results.json`, and `run.json` is completed: it is all that
    `zoo.load(folder)` needs. The same call resumes a training that was stopped, and returns the
    recorded results of one that is finished, as long as the images are the same.

    Every file of a folder of images is decoded before the first epoch. One that cannot be read ends
    the training then, and nothing is written; `skip_bad` leaves such files out, and `run.json`
    names them.

    The weights are those of the last epoch, when the learning rate has fallen to its lowest value.
    No choice is made by accuracy.

    Args:
        recipe: the recipe.
        folder: the run folder. It is made if it does not exist.
        data_dir: where the data lies, see `load_data`.
        steps: largest number of batches in an epoch, to try a recipe out; None for all.
        verbose: what `model.fit` prints: 0 for nothing, 1 for a progress bar, 2 for a line an
            epoch.
        callbacks: further Keras callbacks, such as one that shows the progress.
        skip_bad: whether to go on without image files that cannot be read.
        show: called with the report on a folder of images; it warns by default.

    Returns:
        A dictionary with `test` and `validation` (see `evaluate`; of more than 100 classes without
        `confusion`), `seconds` (the training time), `hardware` and `versions` (of the libraries).

    Raises:
        ValueError: the recipe has fields that the family does not have, the folder holds a run of
            another recipe or on other data, image files cannot be read, or there are too few
            images for a batch.
        RuntimeError: the data set is not on this machine and could not be downloaded.

    Example:
        >>> results = train(find_recipe("resnet20", "cifar10"), "runs/resnet20-cifar10")
        >>> results["test"]["accuracy"]
    """
    folder, section = Path(folder).expanduser(), recipe.family_section()
    refuse_other_recipe(folder, recipe)
    data = checked_data(recipe, folder, data_dir, skip_bad, show)
    run = claim(folder, recipe, data, data_dir)
    if run is None:  # it is finished
        return json.loads((folder / "results.json").read_text())
    kept = folder / ".image-cache"  # of decoded images, if the recipe says so
    data = cached(data, kept if recipe.cache == "disk" else recipe.cache)
    form = {
        "num_classes": len(data.classes),
        "input_shape": data.train.images.shape[1:],
        **recipe.options,
    }
    keras.utils.set_random_seed(recipe.seed)
    with _dtype_policy(recipe.dtype_policy):
        model = zoo.load(recipe.entry, weights=None, **form)
    images = data.train.take(slice(recipe.train_images))
    weights = weights_of_classes(recipe.class_weights, images.labels, data.classes)
    plan = interface(model).training_plan(section, images.images)
    batches = Batches(
        images,
        recipe.batch_size,
        recipe.flip,
        recipe.translate,
        recipe.seed,
        steps,
        plan.groups,
        recipe.resized_crop,
    )
    if not len(batches) or not len(data.validation):
        raise ValueError(
            f"{recipe.data} has {len(images)} images to train on and {len(data.validation)} for "
            f"validation; a batch takes {recipe.batch_size} images (of one group, if the network "
            "trains in groups) and validation at least one; give more images, or a recipe with a "
            "smaller batch_size"
        )
    compile_for(model, recipe, len(batches), plan.undecayed)
    clock = _fit(model, recipe, folder, data, batches, plan, weights, verbose, callbacks)
    plan.finish(images.images)
    model.save_weights(folder / "model.weights.h5")
    # The file is evaluated in float32, whatever precision the training had.
    trained = zoo.load(recipe.entry, folder / "model.weights.h5", **form)
    results = {
        "test": evaluate(trained, data.test, classes=data.classes),
        "validation": evaluate(trained, data.validation),
        "seconds": round(clock.seconds, 1),
        "hardware": _hardware(),
        "versions": {name: metadata.version(name) for name in ("keras", keras.backend.backend())},
    }
    if len(data.classes) > MATRIX:
        del results["test"]["confusion"]
    write_description(run.model_copy(update={"results": results}))
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if recipe.cache == "disk":
        shutil.rmtree(kept, ignore_errors=True)
    return results


def _fit(
    model: keras.Model,
    recipe: Recipe,
    folder: Path,
    data: Data,
    batches: Batches,
    plan: TrainingPlan,
    class_weights: dict[int, float] | None,
    verbose: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> "_Clock":
    """Runs `model.fit` with backups, a log and the callbacks of the family.

    Returns:
        The callback that has measured the training time.
    """
    seen: Any = batches
    held_out: Any = InOrder(data.validation)
    if recipe.label_smoothing:
        seen, held_out = (OneHot(part, len(data.classes)) for part in (seen, held_out))
    clock = _Clock(folder / "seconds.txt")
    model.fit(
        seen,
        epochs=recipe.epochs,
        class_weight=class_weights,
        validation_data=held_out,
        verbose=verbose,
        callbacks=[
            keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            _StartEpoch(batches),
            *plan.callbacks,
            clock,
            *callbacks,
        ],
    )
    return clock


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Gives the layers that are made inside a `with` block this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _hardware() -> str:
    """Names the processor with its number of cores, and the accelerators beside it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    models = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.processor())
    devices = [d for d in keras.distribution.list_devices() if "cpu" not in d.lower()]
    present = os.cpu_count()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    cores = f"{present}" if usable == present else f"{usable} of {present}"
    return ", ".join([f"{cores} x {model}", *devices])


class _StartEpoch(keras.callbacks.Callback):
    """Sets the order of images and the random states of an epoch by its number.

    Args:
        batches: the batches that the training reads.
    """

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.start_epoch(epoch)
        # The backup of a stopped training does not hold the random states of gates and dropout.
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                state = keras.ops.convert_to_numpy(variable)
                variable.assign(np.array([state[0], epoch * len(self.batches)], state.dtype))


class _Clock(keras.callbacks.Callback):
    """Counts the seconds of all epochs of a training, however often it was resumed.

    Args:
        path: the file that keeps the number while the training is stopped.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.seconds = float(path.read_text()) if path.is_file() else 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            self.seconds = 0.0
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds += time.perf_counter() - self.started
        self.path.write_text(str(self.seconds))
