"""DMNN: how much time gates save, and what different images cost."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.core import keras_private
from keras_dynnets.core.arguments import whole_number
from keras_dynnets.core.registry import find
from keras_dynnets.export.formats.base import formats
from keras_dynnets.families.dmnn.forced_gates import FORCE, with_forced_gates
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.measure.latency import (
    TENSORFLOW,
    TRAINING,
    check_runtimes,
    seconds_of,
    set_tensorflow_threads,
)
from keras_dynnets.measure.per_image import measure
from keras_dynnets.measure.plots import easy_and_hard, execution_rates, macs_histogram
from keras_dynnets.studies import BenchRequest, Study
from keras_dynnets.studies.dmnn_contenders import APPLICATIONS, Contenders, contenders

RATES = (1.0, 0.7, 0.5, 0.3)


def batch_sizes() -> dict[str, tuple[int, ...]]:
    """Gives the batch sizes that each runtime is measured at, by the name of the runtime."""
    of_files = {
        known.name: (1, 16) if None in known.batch_sizes else (1,)
        for known in formats()
        if known.own_runtime
    }
    return {**of_files, TENSORFLOW: (16, 64), TRAINING: (128,)}


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        runtime: "tensorflow", "tensorflow_training" or the name of a format.
        batch: number of images in a call.
        threads: number of threads of the runtime.
        rate: share of the sub-blocks that ran, the same for every image, in [0, 1].
        macs_share: MACs needed in parts of the MACs with all sub-blocks on.
        ms: median time of a call, in milliseconds.
        reference_ms: median time of a call of the same layers without gates, in milliseconds; in
            training, of a step in which every sub-block runs and is multiplied by its gate.
        ratio: median of the ratio of the two times, of calls made in turn.
        max_abs_diff: largest difference of a logit from those of the model run as "masked" in
            Keras; None in training.
        application: name of the network of keras.applications that is the backbone; None if there
            is none.
        application_ms: median time of a call of it in the same runtime, in milliseconds.
    """

    runtime: str
    batch: int
    threads: int
    rate: float
    macs_share: float
    ms: float
    reference_ms: float
    ratio: float
    max_abs_diff: float | None
    application: str | None = None
    application_ms: float | None = None

    def cells(self) -> dict[str, str]:
        """Gives the row of a table, texts by the name of the column."""
        difference = "-" if self.max_abs_diff is None else f"{self.max_abs_diff:.1e}"
        application = f"{self.application} {self.application_ms}" if self.application else "-"
        return {
            "runtime": self.runtime,
            "batch": str(self.batch),
            "rate": f"{self.rate:g}",
            "MACs share": f"{self.macs_share:.3f}",
            "ms": f"{self.ms:.3f}",
            "reference ms": f"{self.reference_ms:.3f}",
            "ratio": f"{self.ratio:.3f}",
            "over share": f"{self.ratio - self.macs_share:+.3f}",
            "largest difference": difference,
            "keras.applications ms": application,
        }


def bench(
    name: str,
    rates: Sequence[float] = RATES,
    runtimes: Sequence[str] | None = None,
    threads: int = 1,
    repeats: int = 5,
    seed: int = 0,
    progress: Callable[[Row], Any] = lambda row: None,
) -> list[Row]:
    """Times a DMNN of the zoo at exact execution rates, in each runtime, against no gates.

    Which sub-blocks run is random and differs between images, but every image runs exactly `rate`
    of them. The controllers do all their work. The weights are random, and batch norm has the
    statistics of random images. Calls of the DMNN and of the same layers without gates take turns.

    Args:
        name: name of a DMNN in the zoo.
        rates: shares of the sub-blocks to run, in [0, 1].
        runtimes: some of `batch_sizes()`; None for all. Training is left out by default for images
            of more than 64 pixels a side.
        threads: number of threads of each runtime. TensorFlow takes it only before its first
            computation.
        repeats: number of timed calls for each pattern of gates. There are four patterns, or two
            for batches of more than 16 images.
        seed: seed of the weights, images and patterns.
        progress: called with each `Row` when it is measured.

    Returns:
        A list of `Row`.

    Raises:
        ValueError: the network has no gates, a rate lies outside [0, 1], a runtime is unknown, or
            TensorFlow already runs with another number of threads.

    Example:
        >>> [row] = profile.bench("dmnn20", rates=[0.5], runtimes=["litert"])
        >>> row.macs_share, row.ratio
        (0.5089, 0.7299)
    """
    entry = find(name)
    if entry.family != "dmnn":
        raise ValueError(
            f"{name} has no gates to force; give one of {', '.join(zoo.list_models('dmnn*'))}"
        )
    threads, repeats = whole_number("threads", threads), whole_number("repeats", repeats)
    seed = whole_number("seed", seed, 0)
    batches = batch_sizes()
    small = max(entry.input_shape[:2]) <= 64
    if runtimes is None:
        runtimes = [runtime for runtime in batches if runtime != TRAINING or small]
    check_runtimes(runtimes, list(batches))
    if bad := [rate for rate in rates if not 0 <= rate <= 1]:
        raise ValueError(f"a rate is a share of the sub-blocks, from 0 to 1, not {bad[0]}")
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    model = zoo.load(name, weights=None)
    rng = np.random.default_rng(seed)
    _fit_batch_norm(model, rng)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes:
            for batch in batches[runtime]:
                calls = contenders(runtime, model, batch, threads, Path(folder))
                for rate in rates:
                    rows.append(_measure(runtime, model, batch, threads, rate, calls, rng, repeats))
                    progress(rows[-1])
    return rows


def _fit_batch_norm(model: DMNN, rng: np.random.Generator) -> None:
    """Gives batch norm the statistics of random images, so that logits have their usual size."""
    norms = [
        layer
        for layer in keras_private.flattened_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(_images(model, 4, rng), training=True)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value


def _images(model: DMNN, batch: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, 255, (batch, *model.input_shape[1:])).astype("float32")


def _patterns(model: DMNN, batch: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Gives gates (batch, blocks, sub_blocks) with the same number open for every image."""
    shape = model.path_macs.shape
    size = int(np.prod(shape))
    opened = np.arange(size) < round(rate * size)
    return np.stack([rng.permutation(opened) for _ in range(batch)]).reshape(batch, *shape)


def _measure(
    runtime: str,
    model: DMNN,
    batch: int,
    threads: int,
    rate: float,
    calls: Contenders,
    rng: np.random.Generator,
    repeats: int,
) -> Row:
    patterns = [_patterns(model, batch, rate, rng) for _ in range(4 if batch <= 16 else 2)]
    images = _images(model, batch, rng)
    seconds, differences = [], []
    for pattern in patterns:
        gates = np.where(pattern, FORCE, -FORCE).astype("float32")
        found = calls.gated(images, gates)  # the first call of a shape is slower: not timed
        calls.reference(images, gates)
        if found is not None:
            differences.append(float(np.abs(found - _masked(model, images, gates)).max()))
        for _ in range(repeats):
            pair = (calls.gated, calls.reference)
            seconds.append([seconds_of(call, images, gates) for call in pair])
    application_ms = None
    if calls.application:
        calls.application(images, None)
        of_calls = [seconds_of(calls.application, images, None) for _ in range(repeats)]
        application_ms = round(float(1e3 * np.median(of_calls)), 3)
    times = np.array(seconds)
    all_on = model.macs_of(np.ones_like(patterns[0][:1]))[0]
    share = np.mean([model.macs_of(pattern).mean() for pattern in patterns]) / all_on
    return Row(
        runtime,
        batch,
        threads,
        rate,
        round(float(share), 4),
        round(1e3 * float(np.median(times[:, 0])), 3),
        round(1e3 * float(np.median(times[:, 1])), 3),
        round(float(np.median(times[:, 0] / times[:, 1])), 4),
        max(differences, default=None),
        APPLICATIONS.get(model.backbone) if calls.application else None,
        application_ms,
    )


def _masked(model: DMNN, images: np.ndarray, gates: np.ndarray) -> np.ndarray:
    """Gives the logits of the model run as "masked", with forced gates."""
    before = model.execution
    model.execution = "masked"
    try:
        return np.asarray(with_forced_gates(model)([images, gates], training=False)["logits"])
    finally:
        model.execution = before


def _bench(name: str, request: BenchRequest) -> list[Row]:
    return bench(
        name,
        request.rates or RATES,
        request.runtimes,
        request.threads,
        request.repeats,
        progress=request.progress,
    )


def _draw(model: DMNN, data: Any, folder: Path) -> list[Path]:
    """Draws what the test images cost and which sub-blocks run for each class."""
    images, labels = data.test.images, data.test.labels
    measured = measure(model, images, batch_size=500)
    rates, hard = folder / "execution_rates.png", folder / "easy_and_hard.png"
    return [
        macs_histogram(measured, folder / "macs_histogram.png"),
        execution_rates(measured, labels, data.classes, rates),
        easy_and_hard(measured, images, labels, data.classes, hard),
    ]


STUDY = Study(bench=_bench, draw=_draw)
