"""A network of the zoo against another on the clock, and our grouped convolution against Keras's."""

import dataclasses
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.export import litert, onnx
from keras_dynnets.export.deploy import without_slices
from keras_dynnets.layers import GroupedConv2D
from keras_dynnets.profile.count import count
from keras_dynnets.profile.latency import seconds_of, set_tensorflow_threads

AGAINST = {"tensorflow": 32, "tensorflow_training": 32, "litert": 1, "onnx": 1}  # runtime: batch size


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One measurement of a network against its baseline.

    Attributes:
        name: of the network.
        runtime, batch, threads: where and how both ran.
        macs_share: MACs of the network / MACs of the baseline.
        ms, baseline_ms: median time of a call.
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


def compare(name, against, runtimes=None, threads=1, repeats=20, seed=0, progress=lambda row: None):
    """Times a network of the zoo in every runtime in turn with another one, untrained, on the same images.

    Args:
        name, against: names in the zoo, for images of one size.
        runtimes: some of `AGAINST`; default: all. In TensorFlow forward is `predict_on_batch` and
            training `train_on_batch` compiled without XLA.
        threads: of each runtime. TensorFlow takes the number only before its first
            computation of the process.
        repeats: timed calls of each.
        seed: of weights and images.
        progress: called with every `Comparison` as it comes.

    Returns:
        A list of `Comparison`.

    Raises:
        ValueError: an unknown name or runtime, or networks that take different images.
    """
    runtimes = list(AGAINST) if runtimes is None else runtimes
    check_runtimes(runtimes)
    shapes = [zoo.registry.find(n).input_shape for n in (name, against)]
    if gated := [n for n in (name, against) if zoo.registry.find(n).family == "dmnn"]:
        raise ValueError(f"{gated[0]} does as much work as its gates let it; bench {gated[0]} alone, at exact rates")
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name} takes images {shapes[0]} and {against} {shapes[1]}; compare networks that take the same")
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    models = [zoo.load(n, weights=None) for n in (name, against)]
    rows = []
    for runtime in runtimes:
        rows.append(_compared(name, runtime, models, threads, repeats, seed))
        progress(rows[-1])
    return rows


def compare_detached(name, runtimes=None, threads=1, repeats=20, seed=0, progress=lambda row: None):
    """Times every model that a CNSN of the zoo detaches in turn with one of the same layers and weights of its own.

    In "tensorflow_training" one row more, "whole": a step of the CNSN / the sum of a step of each of its models.
    Arguments, result and errors as of `compare`.
    """
    runtimes = list(AGAINST) if runtimes is None else runtimes
    check_runtimes(runtimes)
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    model = zoo.load(name, weights=None)
    rows = []
    for runtime in runtimes:
        for part in model.names:
            pair = [model.part(part), keras.models.clone_model(without_slices(model.part(part)))]
            rows.append(_compared(part, runtime, pair, threads, repeats, seed))
            progress(rows[-1])
        if runtime == "tensorflow_training":
            networks = [model, *(model.part(part) for part in model.names)]
            rows.append(_compared("whole", runtime, networks, threads, repeats, seed))
            progress(rows[-1])
    return rows


def check_runtimes(runtimes, known=AGAINST):
    """Refuses runtimes that are not known."""
    if unknown := set(runtimes) - set(known):
        raise ValueError(f"runtime {', '.join(unknown)} is unknown; there are {', '.join(known)}")


def _compared(name, runtime, models, threads, repeats, seed):
    """The first model in turn with the others, of which the times are added."""
    batch = AGAINST[runtime]
    shape = (batch, *models[0].input_shape[1:])
    images = np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(i) for i in range(len(models))]
        for place in folders:
            place.mkdir()
        calls = [call_in(runtime, m, batch, threads, place) for m, place in zip(models, folders, strict=True)]
        times = in_turn(calls, images, repeats)
    times = np.stack([times[:, 0], times[:, 1:].sum(1)], axis=1)
    own, base = 1e3 * np.median(times, axis=0)
    own_macs, *macs = (count(m).macs for m in models)
    share = round(own_macs / macs[0], 4) if len(macs) == 1 else 1.0  # a CNSN's step runs all of its models
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    return Comparison(name, runtime, batch, threads, share, round(own, 3), round(base, 3), round(ratio, 4))


def grouped_conv_factor(shape=(32, 16, 16, 128), groups=16, steps=5):
    """How much longer a training step takes with Keras's grouped convolution than with `GroupedConv2D`.

    One 3x3 convolution, pooling and a dense layer, `compile` by default, `fit` on random images.

    Args:
        shape: (batch, height, width, channels). groups: of the convolution.
        steps: timed steps of each.

    Returns:
        Seconds a step of Keras's, of ours, and their ratio.
    """
    images = np.random.default_rng(0).normal(size=(shape[0] * steps, *shape[1:])).astype("float32")
    labels = np.arange(len(images)) % 10
    seconds = []
    for kind in (keras.layers.Conv2D, GroupedConv2D):
        layer = kind(shape[-1], 3, padding="same", groups=groups)
        model = keras.Sequential(
            [keras.Input(shape[1:]), layer, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images[: shape[0]], labels[: shape[0]], batch_size=shape[0], verbose=0)  # compiles
        timed = seconds_of(lambda model=model: model.fit(images, labels, batch_size=shape[0], verbose=0))
        seconds.append(timed / steps)
    return *seconds, seconds[0] / seconds[1]


def call_in(runtime, model, batch, threads, folder):
    """A call of a model in a runtime, a function of images; what it writes goes into `folder`."""
    if runtime == "tensorflow":
        return model.predict_on_batch
    if runtime == "tensorflow_training":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss, jit_compile=False)
        labels = np.zeros(batch, "int32")
        return lambda images: model.train_on_batch(images, labels)
    room = {"litert": litert, "onnx": onnx}[runtime]
    path = folder / f"{model.name}.{runtime}"
    room.write(model, path, batch, False, ("logits",))
    run = room.runner(path, threads)
    return lambda images: run(images=images)


def in_turn(calls, images, repeats):
    """Seconds of calls made in turn, (repeats, calls); each is made twice before."""
    for call in calls:
        call(images), call(images)  # the first are slower: not timed
    return np.array([[seconds_of(call, images) for call in calls] for _ in range(repeats)])
