"""A recipe to a run folder: weights, log and results."""

import contextlib
import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.layers import PathController
from keras_dynnets.layers.grouped_conv import has_gpu
from keras_dynnets.models import CNSN, DMNN, PuppetCNN
from keras_dynnets.profile import measure
from keras_dynnets.training.augment import Batches
from keras_dynnets.training.data import load_data
from keras_dynnets.training.recipe import Recipe
from keras_dynnets.zoo import registry


CALIBRATION = 5000  # images for the batch-norm statistics of a Puppet-CNN's levels


def train(recipe, folder, data_dir=None, steps=None):
    """Trains by a recipe; the same call goes on where a stopped one left off,
    and gives a finished run's results at once.

    The run folder gets `recipe.json`, `log.csv` (one row an epoch), `backup/` while it
    runs, then `model.weights.h5` and `results.json`. The final weights are those of
    the last epoch: the cosine schedule ends at zero, nothing is picked by accuracy.

    Args:
        recipe: a `Recipe`.
        folder: where the run lives; made if need be.
        data_dir: see `load_data`.
        steps: batches an epoch, to try a recipe out; None for all.

    Returns:
        The results, a dict: `test` and `validation` (see `evaluate`), `seconds`, `hardware`, `versions`.

    Raises:
        ValueError: the folder holds a run of another recipe or other data; too few images for a batch.
    """
    folder = Path(folder)
    data = recipe_data(recipe, data_dir)
    _claim(folder, recipe, data)
    if (folder / "results.json").is_file():
        return json.loads((folder / "results.json").read_text())
    form = dict(num_classes=len(data.classes), input_shape=data.train.images.shape[1:], **recipe.options)
    keras.utils.set_random_seed(recipe.seed)
    with _dtype_policy(recipe.dtype_policy):
        model = zoo.load(recipe.entry, weights=None, **form)
    images = data.train.take(slice(recipe.train_images))
    levels = None
    if isinstance(model, PuppetCNN):
        model.rank(images.images)
        levels = model.levels_of(images.images)
    batches = Batches(images, recipe.batch_size, recipe.flip, recipe.translate, recipe.seed, steps, levels, recipe.resized_crop)
    if not len(batches) or not len(data.validation):
        raise ValueError(
            f"{recipe.data} has {len(images)} images to train with, too few for a batch of {recipe.batch_size} (of one level), "
            f"and {len(data.validation)} set aside; give more images or a smaller batch_size"
        )
    compile_for(model, recipe, len(batches))
    validation = (np.asarray(data.validation.images, "float32"), _targets(data.validation.labels, recipe, data))
    clock = _Clock(folder / "seconds.txt")
    model.fit(
        _OneHot(batches, len(data.classes)) if recipe.label_smoothing else batches,
        epochs=recipe.epochs,
        validation_data=validation,
        validation_batch_size=500,
        verbose=2,
        callbacks=[
            keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            _Schedule(batches, recipe),
            clock,
        ],
    )
    if isinstance(model, PuppetCNN):
        model.calibrate(images.images[:CALIBRATION])
    model.save_weights(folder / "model.weights.h5")
    # What is reported is what the file gives in float32, whatever the training computed in.
    trained = zoo.load(recipe.entry, folder / "model.weights.h5", **form)
    results = {
        "test": evaluate(trained, data.test),
        "validation": evaluate(trained, data.validation),
        "seconds": round(clock.seconds, 1),
        "hardware": _hardware(),
        "versions": {name: metadata.version(name) for name in ("keras", keras.backend.backend())},
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def recipe_data(recipe, data_dir=None):
    """The data that a recipe names; images in files in the size that it, or its entry, has."""
    height, _, channels = registry.find(recipe.entry).input_shape
    return load_data(recipe.data, data_dir, recipe.validation, recipe.seed, recipe.image_size or height, channels)


@contextlib.contextmanager
def _dtype_policy(name):
    """Layers made inside have this policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compile_for(model, recipe, steps):
    """Compiles a model with a recipe's optimiser and loss.

    `jit_compile` goes by device: XLA trains convolutions slower than TensorFlow's own kernels on a CPU.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(1, round((recipe.epochs - recipe.warmup_epochs) * steps)),
        warmup_target=recipe.learning_rate,
        warmup_steps=round(recipe.warmup_epochs * steps),
    )
    if not recipe.warmup_epochs:
        schedule = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.epochs * steps)
    if recipe.drops:
        schedule = StepDecay(recipe.learning_rate, round(recipe.warmup_epochs * steps), [d * steps for d in recipe.drops])
    decay = recipe.weight_decay or None
    if recipe.optimizer == "adam":
        options = {"weight_decay": decay, "epsilon": recipe.epsilon}
        optimizer = keras.optimizers.AdamW(schedule, **options) if decay else keras.optimizers.Adam(schedule, **options)
    else:
        optimizer = keras.optimizers.SGD(
            schedule, momentum=recipe.momentum, nesterov=recipe.momentum > 0, weight_decay=decay
        )
    if recipe.weight_decay:
        # Decay would shrink a controller's logits until its gates hang on nothing but noise.
        controllers = [layer for layer in model.layers if isinstance(layer, PathController)]
        optimizer.exclude_from_weight_decay(
            var_list=[weight for layer in controllers for weight in layer.trainable_weights],
            var_names=["bias", "gamma", "beta"],
        )
    if recipe.label_smoothing:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    on_cpu = keras.backend.backend() == "tensorflow" and not has_gpu()
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False if on_cpu else "auto")


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a learning rate that is divided by ten at every one of some steps.

    Args:
        learning_rate: at the end of the warm-up. warmup_steps: of it, 0 for none. drops: steps, from the first on.
    """

    def __init__(self, learning_rate, warmup_steps, drops):
        self.learning_rate, self.warmup_steps, self.drops = learning_rate, warmup_steps, tuple(drops)

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        passed = keras.ops.sum(keras.ops.cast(step >= keras.ops.convert_to_tensor(self.drops, "float32"), "float32"))
        warm = keras.ops.minimum(1.0, step / max(1, self.warmup_steps)) if self.warmup_steps else 1.0
        return self.learning_rate * warm * keras.ops.power(0.1, passed)

    def get_config(self):
        return {"learning_rate": self.learning_rate, "warmup_steps": self.warmup_steps, "drops": self.drops}


def evaluate(model, split, batch_size=500):
    """Top-1 accuracy on a split; of a DMNN what its images cost, of a CNSN that of its sub-models too.

    Returns:
        A dict: `accuracy` in [0, 1], `images`; for a DMNN also `macs_mean`, `macs_all_on`
        (an image), `macs_share` and `execution_rate`.
    """
    measured = measure(model, split.images, batch_size)
    results = {"accuracy": float((measured.logits.argmax(-1) == split.labels).mean()), "images": len(split)}
    if isinstance(model, (DMNN, PuppetCNN)):
        results |= {"macs_mean": measured.mean_macs, "macs_all_on": measured.worst_macs, "macs_share": measured.mean_macs_share}
    if isinstance(model, DMNN):
        results["execution_rate"] = measured.mean_execution_rate
    if isinstance(model, CNSN):
        accuracy = {name: evaluate(model.part(name), split, batch_size)["accuracy"] for name in model.names[1:]}
        results["sub_models"] = {"base": results["accuracy"], **accuracy}
    return results


def _hardware():
    """The processor, or what does the work beside it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    devices = [d for d in keras.distribution.list_devices() if "cpu" not in d.lower()]
    present = os.cpu_count()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    cores = f"{present}" if usable == present else f"{usable} of {present}"
    return ", ".join([f"{cores} x {model}", *devices])


def _targets(labels, recipe, data):
    return np.eye(len(data.classes), dtype="float32")[labels] if recipe.label_smoothing else labels


def _claim(folder, recipe, data):
    """Marks the folder as the run of this recipe on this data, or refuses one that is another's."""
    folder.mkdir(parents=True, exist_ok=True)
    marker, seen = folder / "recipe.json", folder / "data.json"
    if marker.is_file() and Recipe.model_validate_json(marker.read_text()) != recipe:
        raise ValueError(f"{folder} holds a run of another recipe ({marker}); choose another folder with --out")
    images = {name: list(getattr(data, name).images.shape) for name in ("train", "validation", "test")}
    description = json.dumps({"classes": data.classes, **images}, indent=1) + "\n"
    if seen.is_file() and seen.read_text() != description:
        raise ValueError(f"{folder} holds a run on other data ({seen}); choose another folder with --out")
    marker.write_text(recipe.model_dump_json(indent=1) + "\n")
    seen.write_text(description)


class _Schedule(keras.callbacks.Callback):
    """Starts every epoch with its own order of images and, for a DMNN, its phase of the training."""

    def __init__(self, batches, recipe):
        super().__init__()
        self.batches = batches
        self.recipe = recipe

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)
        # The backup does not hold the state of the gates' noise and of dropout: it follows from the epoch.
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                state = keras.ops.convert_to_numpy(variable)
                variable.assign(np.array([state[0], epoch * len(self.batches)], state.dtype))
        if not isinstance(self.model, DMNN):
            return
        target = 1 + (self.target_rate - 1) * self.recipe.target_share(epoch)
        noise = self.noise if self.recipe.noise_until_epoch is None or epoch < self.recipe.noise_until_epoch else 0.0
        if self.model.target_rate != target or self.model.gate_noise != noise:
            self.model.target_rate, self.model.gate_noise = target, noise

    def on_train_begin(self, logs=None):
        if isinstance(self.model, DMNN):
            self.target_rate, self.noise = self.model.target_rate, self.model.gate_noise

    def on_train_end(self, logs=None):
        if isinstance(self.model, DMNN):
            self.model.target_rate, self.model.gate_noise = self.target_rate, self.noise


class _Clock(keras.callbacks.Callback):
    """Seconds of training, over all the times that it was resumed."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.seconds = float(path.read_text()) if path.is_file() else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:
            self.seconds = 0.0
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.perf_counter() - self.started
        self.path.write_text(str(self.seconds))


class _OneHot(keras.utils.PyDataset):
    """Batches with one-hot labels, as Keras's label smoothing wants them."""

    def __init__(self, batches, classes):
        super().__init__()
        self.batches = batches
        self.classes = classes

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, labels = self.batches[index]
        return images, np.eye(self.classes, dtype="float32")[labels]

    def on_epoch_end(self):
        self.batches.on_epoch_end()
