"""Puppet-CNN: its table of sizes, the speed of its networks, and its pictures."""

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.core.arguments import whole_number
from keras_dynnets.core.registry import find
from keras_dynnets.export.formats.base import WriteJob, format_named, formats
from keras_dynnets.families.puppet.kernel_ode import KernelODE
from keras_dynnets.measure.counting import count
from keras_dynnets.measure.latency import (
    TENSORFLOW,
    TRAINING,
    Comparison,
    call_in,
    check_runtimes,
    in_turn,
    runtimes_of_files,
    set_tensorflow_threads,
)
from keras_dynnets.studies import BenchRequest, Point, Study, Table
from keras_dynnets.studies.puppet_plots import (
    complexity_histogram,
    kernels_along_ode,
    levels_curve,
    simple_and_complex,
    stored_bytes,
)

PER_IMAGE = "tensorflow_per_image"
GENERATOR = "_generator"  # suffix of the names of runtimes for files with the generator
BATCH = 64  # images a call in TensorFlow
FILE_IMAGES = 32  # images that are run through a file, one a call

# The stored values in 1e6 bytes by the largest number of channels C (arXiv 2411.12876v1, table 5).
PUPPET = {64: 0.02, 128: 0.07, 256: 0.28, 512: 1.08, 1024: 4.26, 2048: 16.90, 4096: 67.35}


@dataclass(frozen=True)
class Stored:
    """A row of Puppet-CNN's table of sizes.

    Attributes:
        channels: C, the largest number of channels of a convolution in the puppet.
        params: number of trainable values of our puppeteer.
        initial_state: number of values that a learned initial state ("rank_one") adds.
        printed: size in the paper, in 1e6 bytes.
    """

    channels: int
    params: int
    initial_state: int
    printed: float


def puppet_table() -> list[Stored]:
    """Counts the trainable values of puppeteers and gives the paper's sizes beside them.

    Returns:
        One row for each C in the paper, from 64 to 4096.

    Example:
        >>> [(row.channels, row.params) for row in profile.puppet_table()][:2]
        [(64, 5056), (128, 18304)]

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, table 5.
    """
    rows = []
    for channels, printed in PUPPET.items():
        puppeteers = [KernelODE(channels, state=state) for state in ("constant", "rank_one")]
        for puppeteer in puppeteers:
            puppeteer.build()
        params, with_factors = (puppeteer.count_params() for puppeteer in puppeteers)
        rows.append(Stored(channels, params, with_factors - params, printed))
    return rows


def table() -> Table:
    """Gives the paper's table of sizes with ours, for the command line."""
    rows = [
        {
            "C": str(row.channels),
            "trainable values": f"{row.params:,}",
            "more with a rank-one start": f"{row.initial_state:,}",
            "megabytes": f"{4e-6 * row.params:.2f} / {row.printed:.2f}",
        }
        for row in puppet_table()
    ]
    title = "Puppet-CNN (arXiv 2411.12876), ours / the paper's; C^2 + 15 C float32 values"
    return Table(title, rows)


def level_runtimes() -> list[str]:
    """Lists the runtimes in which a Puppet-CNN is compared with its plain CNN."""
    generators = [
        known.name + GENERATOR for known in formats() if known.own_runtime and known.tools
    ]
    return [TENSORFLOW, PER_IMAGE, TRAINING, *runtimes_of_files(), *generators]


def compare_levels(
    name: str,
    runtimes: Collection[str] | None = None,
    threads: int = 1,
    repeats: int = 5,
    seed: int = 0,
    progress: Callable[[Comparison], Any] = lambda row: None,
) -> list[Comparison]:
    """Times a Puppet-CNN of the zoo against the plain CNN that it is made of, both untrained.

    The calls of the two networks are made in turn. The images differ in complexity; each level has
    the same number of them. A network whose depth adapts and the plain network with two layers of
    each width need about the same MACs.

    Args:
        name: name of a Puppet-CNN in the zoo.
        runtimes: some of these; None for all. "tensorflow": `predict` of eight batches of 64
            images. "tensorflow_per_image": one such batch with kernels generated for each image,
            as in the paper. "tensorflow_training": a training step of 64 images for each level,
            with the generation of the kernels. The name of a format: 32 images, one a call,
            through a file with the networks of all levels. The name of a format followed by
            "_generator": the same through a file with the generator, which has been loaded before.
        threads: number of threads of each runtime. TensorFlow takes it only before its first
            computation.
        repeats: number of timed calls of each network.
        seed: seed of weights and images.
        progress: called with every `Comparison` as it comes.

    Returns:
        A list of `Comparison`, one for each runtime, times in milliseconds.

    Raises:
        ValueError: an unknown name or runtime, or an entry without a plain network to compare with.

    Example:
        >>> (row,) = profile.compare_levels("puppet_cnn_128", ["tensorflow"])
        >>> row.ratio  # time of the Puppet-CNN / time of the plain CNN
    """
    threads, repeats = whole_number("threads", threads), whole_number("repeats", repeats)
    seed = whole_number("seed", seed, 0)
    runtimes = check_runtimes(runtimes, level_runtimes())
    rival = find(name).rival
    if rival is None:
        raise ValueError(
            f"{name} has no plain network to be compared with; give a Puppet-CNN of the zoo, such "
            "as puppet_cnn"
        )
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    model, plain = zoo.load(name, weights=None), zoo.load(rival, weights=None)
    images = _varied(8 * BATCH, model.input_shape[1:], seed)
    model.calibrate(images)
    mean = float(np.mean(np.array(model.level_macs)[model.levels_of(images)]))
    share = round(mean / count(plain).macs, 4)
    rows = []
    for runtime in runtimes:
        with tempfile.TemporaryDirectory() as folder:
            calls, batch = _calls(runtime, name, model, plain, images, threads, Path(folder))
            times = in_turn(calls, images, repeats)
        own, base = 1e3 * np.median(times, axis=0)
        ratio = round(float(np.median(times[:, 0] / times[:, 1])), 4)
        times_ms = (round(own, 3), round(base, 3))
        rows.append(Comparison(name, runtime, batch, threads, share, *times_ms, ratio))
        progress(rows[-1])
    return rows


def _varied(n: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Makes images from flat to noisy, (n, height, width, channels) in [0, 255]."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, *shape)) * np.linspace(2, 90, n)[:, None, None, None]
    base = rng.uniform(60, 200, (n, 1, 1, shape[-1]))
    return np.clip(rng.permutation(noise + base), 0, 255).astype("float32")


def _calls(
    runtime: str,
    name: str,
    model: Any,
    plain: keras.Model,
    images: np.ndarray,
    threads: int,
    folder: Path,
) -> tuple[list[Callable[[np.ndarray], Any]], int]:
    """Gives a call of the model and one of the plain network, functions of images.

    Args:
        runtime: one of `level_runtimes()`.
        name: name of the model in the zoo.
        model: the `PuppetCNN`.
        plain: the plain network.
        images: images of all levels, (n, height, width, channels).
        threads: number of threads of the runtime of a format.
        folder: folder for files.

    Returns:
        The two calls, and the number of images that run at once in them.
    """
    if runtime == TENSORFLOW:
        starts = range(0, len(images), BATCH)
        return [
            lambda x: model.predict(x, BATCH, verbose=0),
            lambda x: [plain.predict_on_batch(x[i : i + BATCH]) for i in starts],
        ], BATCH
    if runtime == PER_IMAGE:
        exact = zoo.load(name, weights=None, levels=None)
        exact.calibrate(images[:BATCH], 8)
        return [
            lambda x: exact.predict_on_batch(x[:BATCH]),
            lambda x: plain.predict_on_batch(x[:BATCH]),
        ], BATCH
    if runtime == TRAINING:
        steps = [call_in(runtime, network, BATCH, threads, folder) for network in (model, plain)]
        levels = model.levels_of(images)
        batches: list[Any] = [
            np.resize(images[levels == level], (BATCH, *images.shape[1:]))
            for level in np.unique(levels)
        ]
        return [lambda x, step=step: [step(batch) for batch in batches] for step in steps], BATCH
    return _calls_of_files(runtime, model, plain, threads, folder), 1


def _calls_of_files(
    runtime: str, model: Any, plain: keras.Model, threads: int, folder: Path
) -> list[Callable[[np.ndarray], Any]]:
    """Writes a file of the model and one of the plain network, and gives a call of each.

    The arguments are those of `_calls`; a call runs the first images one by one.
    """
    kind = runtime.removesuffix(GENERATOR)
    target = format_named(kind)
    kernels = "generator" if runtime.endswith(GENERATOR) else "materialised"
    path = folder / f"levels{target.suffix}"
    target.write_deployment(model.deployments(kernels=kernels), path, WriteJob(1))
    session = target.runner(path, threads)
    runs = [lambda image: session(images=image), call_in(kind, plain, 1, threads, folder)]
    return [lambda x, run=run: [run(image[None]) for image in x[:FILE_IMAGES]] for run in runs]


def _bench(name: str, request: BenchRequest) -> list[Comparison]:
    """Times a Puppet-CNN as the command line asks for it."""
    request = request.without_rates()
    return compare_levels(
        name, request.runtimes, request.threads, request.repeats, progress=request.progress
    )


def _draw(model: Any, data: Any, folder: Path) -> list[Path]:
    """Draws the complexities and depths of the test images, kernels, levels and stored bytes."""
    images = data.test.images
    levels_curve(model, images[:500], folder / "levels.png")
    return [
        complexity_histogram(model, images, folder / "complexity.png"),
        simple_and_complex(model, images, folder / "simple_and_complex.png"),
        kernels_along_ode(model, folder / "kernels.png"),
        folder / "levels.png",
        stored_bytes(model, folder / "stored_bytes.png"),
    ]


STUDY = Study(
    table=table,
    bench=_bench,
    draw=_draw,
    points={"cifar10": (Point("Puppet-CNN", 0.7251, None, 1.08e6),)},
)
