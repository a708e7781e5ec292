"""DMNN: what skipping saves on the clock, and what images cost."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.core import keras_private
from keras_dynnets.core.registry import find
from keras_dynnets.export.formats.base import WriteJob, formats
from keras_dynnets.families.dmnn.forced_gates import FORCE, with_forced_gates, without_gates
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.families.dmnn.path_controller import PathController
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

RATES = (1.0, 0.7, 0.5, 0.3)
APPLICATIONS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "mobilenetv2": "MobileNetV2"}


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
        runtime, batch, threads: where and how it ran.
        rate: share of sub-blocks that ran, exact for every image.
        macs_share: MACs needed / MACs with all paths on.
        ms: median time of a call.
        reference_ms: that of the same layers without gates (in training: of the masked step).
        ratio: median of the ratios of calls made in turn, this / reference.
        max_abs_diff: largest difference of the logits from Keras's masked form; of training, None.
        application, application_ms: the network of keras.applications that this one
            stands beside, if there is one, in the same runtime and run.
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
        """Gives the row of a table."""
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
    """Times a DMNN of the zoo at forced rates, in every runtime, against its layers without gates.

    The gates are random but exact: every image of a batch runs `rate` of all sub-blocks, another
    set each. The controllers still work. Weights are random, with batch norm fitted to the
    images. Calls of the two networks alternate.

    Args:
        name: a DMNN of the zoo.
        rates: shares of sub-blocks to run, in [0, 1].
        runtimes: some of `batch_sizes()`; None for all ("tensorflow_training" only for images of
            up to 64 pixels).
        threads: of each runtime. TensorFlow takes the number only before its first computation.
        repeats: timed calls for each gate pattern, of which there are four (two for large
            batches).
        seed: of weights, images and patterns.
        progress: called with every `Row` as it comes.

    Returns:
        A list of `Row`.

    Raises:
        ValueError: a network without gates, a rate outside [0, 1], an unknown runtime.
    """
    entry = find(name)
    if entry.family != "dmnn":
        raise ValueError(
            f"{name} has no gates to force; give one of {', '.join(zoo.list_models('dmnn*'))}"
        )
    batches = batch_sizes()
    small = max(entry.input_shape[:2]) <= 64
    if runtimes is None:
        runtimes = [runtime for runtime in batches if runtime != TRAINING or small]
    check_runtimes(runtimes, list(batches))
    if bad := [rate for rate in rates if not 0 <= rate <= 1]:
        raise ValueError(f"a rate is a share of sub-blocks, from 0 to 1, not {bad[0]}")
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    model = zoo.load(name, weights=None)
    rng = np.random.default_rng(seed)
    _fit_batch_norm(model, rng)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes:
            for batch in batches[runtime]:
                calls = _contenders(runtime, model, batch, threads, Path(folder))
                for rate in rates:
                    rows.append(_measure(runtime, model, batch, threads, rate, calls, rng, repeats))
                    progress(rows[-1])
    return rows


def _fit_batch_norm(model, rng):
    """One pass in training mode that replaces the moving statistics, so that logits have the usual size."""
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


def _images(model, batch, rng):
    return rng.uniform(0, 255, (batch, *model.input_shape[1:])).astype("float32")


def _patterns(model, batch, rate, rng):
    """Gates (batch, blocks, sub_blocks) with exactly the same number open for every image."""
    shape = model.path_macs.shape
    size = int(np.prod(shape))
    opened = np.arange(size) < round(rate * size)
    return np.stack([rng.permutation(opened) for _ in range(batch)]).reshape(batch, *shape)


def _contenders(runtime, model, batch, threads, folder):
    """Functions (images, forced) -> logits: the gated network, its layers without gates, the application or None."""
    forced, plain = with_forced_gates(model), without_gates(model)
    application = _application(model)
    if runtime == TENSORFLOW:
        predict = lambda network, *inputs: network.predict(*inputs, batch_size=batch, verbose=0)  # noqa: E731
        return (
            lambda images, gates: predict(forced, [images, gates])["logits"],
            lambda images, gates: predict(plain, images),
            application and (lambda images, gates: predict(application, images)),
        )
    if runtime == TRAINING:
        return _training_step(model, "sparse"), _training_step(model, "masked"), None
    target = next(known for known in formats() if known.name == runtime)
    job = WriteJob(None if batch > 1 else batch)

    def runner(network):
        path = folder / f"{network.name}_{batch}{target.suffix}"
        target.write(network, path, job)
        return target.runner(path, threads)

    run, run_plain, run_application = (
        runner(forced),
        runner(plain),
        application and runner(application),
    )
    return (
        lambda images, gates: run(images=images, forced=gates)["logits"],
        lambda images, gates: run_plain(images=images)["logits"],
        application and (lambda images, gates: run_application(images=images)["logits"]),
    )


def _application(model):
    if model.backbone not in APPLICATIONS:
        return None
    network = getattr(keras.applications, APPLICATIONS[model.backbone])
    return network(
        weights=None,
        input_shape=model.input_shape[1:],
        classes=model.num_classes,
        classifier_activation=None,
    )


def _training_step(model, execution):
    twin = DMNN.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    twin.execution = execution
    for layer in twin.layers:  # what the sparse form is for: fine-tuning with the paths fixed
        layer.trainable = not isinstance(layer, PathController)
    network = with_forced_gates(twin)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9), {"logits": loss, "gates": None}, jit_compile=False
    )

    def step(images, gates):
        network.train_on_batch([images, gates], {"logits": np.zeros(len(images), "int32")})

    return step


def _measure(runtime, model, batch, threads, rate, calls, rng, repeats):
    contender, reference, application = calls
    patterns = [_patterns(model, batch, rate, rng) for _ in range(4 if batch <= 16 else 2)]
    images = _images(model, batch, rng)
    times, differences = [], []
    for pattern in patterns:
        gates = np.where(pattern, FORCE, -FORCE).astype("float32")
        found = contender(images, gates)  # the first call of a shape is slower: not timed
        reference(images, gates)
        if found is not None:
            differences.append(float(np.abs(found - _masked(model, images, gates)).max()))
        for _ in range(repeats):
            times.append([seconds_of(call, images, gates) for call in (contender, reference)])
    application_ms = None
    if application:
        application(images, None)
        application_ms = 1e3 * np.median(
            [seconds_of(application, images, None) for _ in range(repeats)]
        )
    times = np.array(times)
    shares = (
        np.mean([model.macs_of(p).mean() for p in patterns])
        / model.macs_of(np.ones_like(patterns[0][:1]))[0]
    )
    return Row(
        runtime,
        batch,
        threads,
        rate,
        round(float(shares), 4),
        round(1e3 * float(np.median(times[:, 0])), 3),
        round(1e3 * float(np.median(times[:, 1])), 3),
        round(float(np.median(times[:, 0] / times[:, 1])), 4),
        max(differences, default=None),
        APPLICATIONS.get(model.backbone) if application else None,
        application_ms and round(float(application_ms), 3),
    )


def _masked(model, images, gates):
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
    """Draws what the test images cost and which sub-blocks each class runs."""
    images, labels = data.test.images, data.test.labels
    measured = measure(model, images, batch_size=500)
    rates, hard = folder / "execution_rates.png", folder / "easy_and_hard.png"
    return [
        macs_histogram(measured, folder / "macs_histogram.png"),
        execution_rates(measured, labels, data.classes, rates),
        easy_and_hard(measured, images, labels, data.classes, hard),
    ]


STUDY = Study(bench=_bench, draw=_draw)
