"""Times of networks: one against another, in every runtime, in one run."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.core import graph
from keras_dynnets.core.arguments import whole_number
from keras_dynnets.core.conditional import gated_layers
from keras_dynnets.core.registry import find
from keras_dynnets.export.formats.base import WriteJob, format_named, formats
from keras_dynnets.measure.counting import count

TENSORFLOW, TRAINING = "tensorflow", "tensorflow_training"
BATCH = 32  # images a call in TensorFlow


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Times of a network and of a baseline, measured in turn.

    Attributes:
        name: name of the network.
        runtime: "tensorflow", "tensorflow_training" or the name of a format.
        batch: number of images in a call.
        threads: number of threads of the runtime.
        macs_share: MACs of the network divided by those of the baseline.
        ms: median time of a call of the network, in milliseconds.
        baseline_ms: median time of a call of the baseline, in milliseconds.
        ratio: median of the ratios of calls made in turn, network / baseline.
    """

    name: str
    runtime: str
    batch: int
    threads: int
    macs_share: float
    ms: float
    baseline_ms: float
    ratio: float

    def cells(self) -> dict[str, str]:
        """Gives a row of a table as texts by the name of the column."""
        return {
            "network": self.name,
            "runtime": self.runtime,
            "batch": str(self.batch),
            "MACs share": f"{self.macs_share:.3f}",
            "ms": f"{self.ms:.3f}",
            "baseline ms": f"{self.baseline_ms:.3f}",
            "ratio": f"{self.ratio:.3f}",
        }


def runtimes_of_files() -> list[str]:
    """Lists the names of the formats whose files another runtime than TensorFlow runs."""
    return [known.name for known in formats() if known.own_runtime]


def default_runtimes() -> list[str]:
    """Lists the runtimes that networks are compared in."""
    return [TENSORFLOW, TRAINING, *runtimes_of_files()]


def compare(
    name: str,
    against: str,
    runtimes: Collection[str] | None = None,
    threads: int = 1,
    repeats: int = 20,
    seed: int = 0,
    progress: Callable[[Comparison], Any] = lambda row: None,
) -> list[Comparison]:
    """Times a network of the zoo against another one, untrained, on the same images.

    The calls of the two networks are made in turn.

    Args:
        name: name of the network in the zoo.
        against: name of the baseline in the zoo, which takes images of the same size.
        runtimes: some of "tensorflow" (`predict_on_batch`), "tensorflow_training"
            (`train_on_batch`, compiled without XLA) and the names of formats; None for all.
        threads: number of threads of each runtime. TensorFlow takes it only before its first
            computation.
        repeats: number of timed calls of each network.
        seed: seed of weights and images.
        progress: called with every `Comparison` as it comes.

    Returns:
        A list of `Comparison`, one for each runtime, times in milliseconds.

    Raises:
        ValueError: a name or runtime is unknown, the networks take different images, or one has
            gates, so that its work depends on the images.

    Example:
        >>> (row,) = profile.compare("mobilenetv2", "resnet50", ["tensorflow"])
        >>> row.ms, row.baseline_ms, row.ratio
    """
    threads, repeats = whole_number("threads", threads), whole_number("repeats", repeats)
    seed = whole_number("seed", seed, 0)
    runtimes = check_runtimes(runtimes, default_runtimes())
    shapes = [find(n).input_shape for n in (name, against)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} takes images {shapes[0]} and {against} {shapes[1]}; compare networks that "
            "take the same"
        )
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    models = [zoo.load(n, weights=None) for n in (name, against)]
    for model in models:
        if gated_layers(model):
            raise ValueError(
                f"the work of {model.name} depends on its gates, so a comparison of untrained "
                f"networks says nothing; keras-dynnets bench {model.name} times it at exact rates"
            )
    rows = []
    for runtime in runtimes:
        rows.append(compare_models(name, runtime, models, threads, repeats, seed))
        progress(rows[-1])
    return rows


def check_runtimes(runtimes: Collection[str] | None, known: Sequence[str]) -> list[str]:
    """Gives the runtimes to measure in.

    Args:
        runtimes: the runtimes that the user asks for; None for all.
        known: the runtimes that there are.

    Raises:
        ValueError: a runtime that is not known.
    """
    if runtimes is None:
        return list(known)
    if unknown := [runtime for runtime in runtimes if runtime not in known]:
        raise ValueError(f"runtime {', '.join(unknown)} is unknown; there are {', '.join(known)}")
    return list(runtimes)


def compare_models(
    name: str,
    runtime: str,
    models: Sequence[keras.Model],
    threads: int,
    repeats: int,
    seed: int,
) -> Comparison:
    """Times the first model against the others, whose times are added.

    Args:
        name: name of the row.
        runtime: "tensorflow", "tensorflow_training" or the name of a format.
        models: functional models for images of one size, the baselines from the second on.
        threads: number of threads of the runtime.
        repeats: number of timed calls of each model.
        seed: seed of the images.
    """
    batch = BATCH if runtime in (TENSORFLOW, TRAINING) else 1
    shape = (batch, *models[0].input_shape[1:])
    images = np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(i) for i in range(len(models))]
        for place in folders:
            place.mkdir()
        pairs = zip(models, folders, strict=True)
        calls = [call_in(runtime, model, batch, threads, place) for model, place in pairs]
        times = in_turn(calls, images, repeats)
    times = np.stack([times[:, 0], times[:, 1:].sum(1)], axis=1)
    own, base = 1e3 * np.median(times, axis=0)
    own_macs, *macs = (count(model).macs for model in models)
    # The step of a model of several networks runs as many MACs as the steps of all its networks.
    share = round(own_macs / macs[0], 4) if len(macs) == 1 else 1.0
    ratio = round(float(np.median(times[:, 0] / times[:, 1])), 4)
    return Comparison(name, runtime, batch, threads, share, round(own, 3), round(base, 3), ratio)


def call_in(
    runtime: str, model: keras.Model, batch: int, threads: int, folder: Path
) -> Callable[[np.ndarray], Any]:
    """Gives a call of a model in a runtime, a function of images.

    Args:
        runtime: "tensorflow", "tensorflow_training" or the name of a format.
        model: a functional model.
        batch: number of images in a call.
        threads: number of threads of the runtime of a format.
        folder: where files are written.
    """
    if runtime == TENSORFLOW:
        return model.predict_on_batch
    if runtime == TRAINING:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
        model.compile(optimizer, loss, jit_compile=False)
        labels = np.zeros(batch, "int32")
        return lambda images: model.train_on_batch(images, labels)
    target = format_named(runtime)
    path = folder / f"{model.name}{target.suffix}"
    target.write(graph.inference(model), path, WriteJob(batch))
    run = target.runner(path, threads)
    return lambda images: run(images=images)


def in_turn(
    calls: Sequence[Callable[[np.ndarray], Any]], images: np.ndarray, repeats: int
) -> np.ndarray:
    """Times calls in turn, after two calls of each that are not timed.

    Args:
        calls: functions of images.
        images: (batch, height, width, channels).
        repeats: number of timed calls of each.

    Returns:
        Seconds, (repeats, calls).
    """
    for call in calls:
        for _ in range(2):
            call(images)
    return np.array([[seconds_of(call, images) for call in calls] for _ in range(repeats)])


def seconds_of(call: Callable, *inputs: Any) -> float:
    """Gives the wall-clock seconds of one call of a function with the given inputs."""
    started = time.perf_counter()
    call(*inputs)
    return time.perf_counter() - started


def milliseconds(
    model: keras.Model, runtime: str, threads: int = 1, repeats: int = 20, batch: int = 1
) -> float:
    """Gives the median milliseconds of a call with random images.

    Args:
        model: a functional model.
        runtime: "tensorflow", "tensorflow_training" or the name of a format.
        threads: number of threads of the runtime of a format.
        repeats: number of timed calls.
        batch: number of images in a call.
    """
    shape = (batch, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        call = call_in(runtime, model, batch, threads, Path(folder))
        return 1e3 * float(np.median(in_turn([call], images, repeats)))


def set_tensorflow_threads(threads: int) -> None:
    """Sets TensorFlow's number of threads.

    Args:
        threads: number of threads inside an operation and of operations side by side.

    Raises:
        ValueError: TensorFlow already runs with another number.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        found = tf.config.threading.get_intra_op_parallelism_threads()
        if found != threads:
            raise ValueError(
                f"TensorFlow already runs with {found or 'all'} threads and takes no other number; "
                f"measure with {threads} in a fresh process"
            ) from error
