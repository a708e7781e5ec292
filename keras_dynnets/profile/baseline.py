"""A network of the zoo against another on the clock, and our grouped convolution against Keras's."""

import dataclasses
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.export import litert, onnx
from keras_dynnets.layers import GroupedConv2D
from keras_dynnets.profile.count import count
from keras_dynnets.profile.latency import seconds_of, set_tensorflow_threads

AGAINST = {"tensorflow": 32, "tensorflow_training": 32, "litert": 1, "onnx": 1}  # runtime: batch size


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One measurement of a network against its baseline.

    Attributes:
        runtime, batch, threads: where and how both ran.
        macs_share: MACs of the network / MACs of the baseline.
        ms, baseline_ms: median time of a call.
        ratio: median of the ratios of calls made in turn, network / baseline.
    """

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
    if unknown := set(runtimes) - set(AGAINST):
        raise ValueError(f"runtime {', '.join(unknown)} is unknown; there are {', '.join(AGAINST)}")
    shapes = [zoo.registry.find(n).input_shape for n in (name, against)]
    if gated := [n for n in (name, against) if zoo.registry.find(n).family == "dmnn"]:
        raise ValueError(f"{gated[0]} does as much work as its gates let it; bench {gated[0]} alone, at exact rates")
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name} takes images {shapes[0]} and {against} {shapes[1]}; compare networks that take the same")
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    models = [zoo.load(n, weights=None) for n in (name, against)]
    share = count(models[0]).macs / count(models[1]).macs
    rng = np.random.default_rng(seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes:
            batch = AGAINST[runtime]
            images = rng.uniform(0, 255, (batch, *shapes[0])).astype("float32")
            calls = [call_in(runtime, model, batch, threads, Path(folder)) for model in models]
            times = _in_turn(calls, images, repeats)
            own, base = 1e3 * np.median(times, axis=0)
            ratio = float(np.median(times[:, 0] / times[:, 1]))
            row = Comparison(
                runtime, batch, threads, round(share, 4), round(own, 3), round(base, 3), round(ratio, 4)
            )
            rows.append(row)
            progress(row)
    return rows


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


def _in_turn(calls, images, repeats):
    for call in calls:
        call(images), call(images)  # the first are slower: not timed
    return np.array([[seconds_of(call, images) for call in calls] for _ in range(repeats)])
