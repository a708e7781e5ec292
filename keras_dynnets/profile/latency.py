"""What skipping saves on the clock: a DMNN at exact rates against the same layers without gates."""

import dataclasses
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.export import litert, onnx
from keras_dynnets.layers import PathController
from keras_dynnets.models import DMNN
from keras_dynnets.profile.forced import FORCE, with_forced_gates, without_gates
from keras_dynnets.zoo.registry import find

RUNTIMES = {  # name: batch sizes
    "litert": (1,),
    "onnx": (1, 16),
    "tensorflow": (16, 64),
    "tensorflow_training": (128,),
}
APPLICATIONS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "mobilenetv2": "MobileNetV2"}


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


def bench(name, rates=(1.0, 0.7, 0.5, 0.3), runtimes=None, threads=1, repeats=5, seed=0, progress=lambda row: None):
    """Times a DMNN of the zoo at forced rates, in every runtime, against its layers without gates.

    The gates are random but exact: every image of a batch runs `rate` of all
    sub-blocks, another set each. The controllers still work. Weights are random, with
    batch norm fitted to the images. Calls of the two networks alternate.

    Args:
        name: a DMNN of the zoo.
        rates: shares of sub-blocks to run, in [0, 1].
        runtimes: some of `RUNTIMES`; default: all ("tensorflow_training" only for images up to 64 pixels).
        threads: of each runtime. TensorFlow takes the number only before its first
            computation of the process.
        repeats: timed calls for each gate pattern, of which there are four (two for large batches).
        seed: of weights, images and patterns.
        progress: called with every `Row` as it comes.

    Returns:
        A list of `Row`.

    Raises:
        ValueError: a network without gates, a rate outside [0, 1], an unknown runtime.
    """
    entry = find(name)
    if entry.builder is not DMNN:
        raise ValueError(
            f"{name} has no gates to force; bench takes {', '.join(zoo.list_models('dmnn*'))}, "
            "or any model --against another"
        )
    small = max(entry.input_shape[:2]) <= 64
    runtimes = [r for r in RUNTIMES if r != "tensorflow_training" or small] if runtimes is None else runtimes
    if unknown := set(runtimes) - set(RUNTIMES):
        raise ValueError(f"runtime {', '.join(unknown)} is unknown; there are {', '.join(RUNTIMES)}")
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
            for batch in RUNTIMES[runtime]:
                contender, reference, application = _contenders(runtime, model, batch, threads, Path(folder))
                for rate in rates:
                    calls = (contender, reference, application)
                    rows.append(_measure(runtime, model, batch, threads, rate, calls, rng, repeats))
                    progress(rows[-1])
    return rows


def set_tensorflow_threads(threads):
    """Gives TensorFlow so many threads, or raises ValueError if it already runs with another number."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        found = tf.config.threading.get_intra_op_parallelism_threads()
        if found != threads:
            raise ValueError(
                f"TensorFlow already runs with {found or 'all'} threads; bench in a fresh process"
            ) from error


def _fit_batch_norm(model, rng):
    """One pass in training mode that replaces the moving statistics, so that logits have the usual size."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
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
    if runtime == "tensorflow":
        predict = lambda network, *inputs: network.predict(*inputs, batch_size=batch, verbose=0)  # noqa: E731
        return (
            lambda images, gates: predict(forced, [images, gates])["logits"],
            lambda images, gates: predict(plain, images),
            application and (lambda images, gates: predict(application, images)),
        )
    if runtime == "tensorflow_training":
        return _training_step(model, "sparse"), _training_step(model, "masked"), None
    room = {"litert": litert, "onnx": onnx}[runtime]
    size = None if runtime == "onnx" and batch > 1 else batch

    def runner(network):
        path = folder / f"{network.name}_{batch}.{runtime}"
        room.write(network, path, size, False, ("logits",))
        return room.runner(path, threads)

    run, run_plain, run_application = runner(forced), runner(plain), application and runner(application)
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
        weights=None, input_shape=model.input_shape[1:], classes=model.num_classes, classifier_activation=None
    )


def _training_step(model, execution):
    twin = DMNN.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    twin.execution = execution
    for layer in twin.layers:  # what the sparse form is for: fine-tuning with the paths fixed
        layer.trainable = not isinstance(layer, PathController)
    network = with_forced_gates(twin)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(1e-3, momentum=0.9), {"logits": loss, "gates": None}, jit_compile=False)

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
        application_ms = 1e3 * np.median([seconds_of(application, images, None) for _ in range(repeats)])
    times = np.array(times)
    shares = np.mean([model.macs_of(p).mean() for p in patterns]) / model.macs_of(np.ones_like(patterns[0][:1]))[0]
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


def seconds_of(call, *inputs):
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    call(*inputs)
    return time.perf_counter() - started
