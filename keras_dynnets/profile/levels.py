"""A Puppet-CNN on the clock, against a plain CNN."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.export import onnx
from keras_dynnets.export.level_switch import switching
from keras_dynnets.profile.baseline import Comparison, call_in, check_runtimes, in_turn
from keras_dynnets.profile.count import count
from keras_dynnets.profile.latency import set_tensorflow_threads

LEVELLED = ("tensorflow", "tensorflow_per_image", "tensorflow_training", "litert", "onnx", "onnx_generator")
BATCH = 64


def compare_levels(name, runtimes=None, threads=1, repeats=5, seed=0, progress=lambda row: None):
    """Times a Puppet-CNN of the zoo in every runtime in turn with the plain CNN that it is made of, both untrained.

    The images differ in complexity, as many for each level. Where the depth adapts and the plain network has two
    layers a width, both need about the same MACs.

    Args:
        name: a Puppet-CNN of the zoo.
        runtimes: some of `LEVELLED`; default: all. "tensorflow": `predict` of eight batches of 64;
            "tensorflow_per_image": one such batch with kernels generated for each image, as the paper's authors do;
            "tensorflow_training": a step of 64 images of each level, with the generation of their kernels; "litert", "onnx":
            32 images, one a call, through one file with the networks of all levels; "onnx_generator": the same through a
            file with the generator, loaded before.
        threads: of each runtime. TensorFlow takes the number only before its first
            computation of the process.
        repeats: timed calls of each.
        seed: of weights and images.
        progress: called with every `Comparison` as it comes.

    Returns:
        A list of `Comparison`.

    Raises:
        ValueError: an unknown runtime.
    """
    runtimes = list(LEVELLED) if runtimes is None else runtimes
    check_runtimes(runtimes, LEVELLED)
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    entry = zoo.registry.find(name)
    model, plain = zoo.load(name, weights=None), zoo.load(entry.arguments["network"], weights=None)
    images = _varied(8 * BATCH, model.input_shape[1:], seed)
    model.calibrate(images)
    share = float(np.mean(np.array(model.level_macs)[model.levels_of(images)])) / count(plain).macs
    rows = []
    for runtime in runtimes:
        with tempfile.TemporaryDirectory() as folder:
            calls, batch = _calls(runtime, name, model, plain, images, threads, Path(folder))
            times = in_turn(calls, images, repeats)
        own, base = 1e3 * np.median(times, axis=0)
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        rows.append(Comparison(name, runtime, batch, threads, round(share, 4), round(own, 3), round(base, 3), round(ratio, 4)))
        progress(rows[-1])
    return rows


def _varied(n, shape, seed):
    """Images from flat to noisy."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, *shape)) * np.linspace(2, 90, n)[:, None, None, None]
    return np.clip(rng.permutation(noise + rng.uniform(60, 200, (n, 1, 1, shape[-1]))), 0, 255).astype("float32")


def _calls(runtime, name, model, plain, images, threads, folder):
    """The two calls, functions of images, and the batch size."""
    if runtime == "tensorflow":
        batches = range(0, len(images), BATCH)
        return [
            lambda x: model.predict(x, BATCH, verbose=0),
            lambda x: [plain.predict_on_batch(x[i : i + BATCH]) for i in batches],
        ], BATCH
    if runtime == "tensorflow_per_image":
        exact = zoo.load(name, weights=None, levels=None)
        exact.calibrate(images[:BATCH], 8)
        return [lambda x: exact.predict_on_batch(x[:BATCH]), lambda x: plain.predict_on_batch(x[:BATCH])], BATCH
    if runtime == "tensorflow_training":
        steps = [call_in(runtime, network, BATCH, threads, folder) for network in (model, plain)]
        levels = model.levels_of(images)
        batches = [np.resize(images[levels == level], (BATCH, *images.shape[1:])) for level in np.unique(levels)]
        return [lambda x, step=step: [step(batch) for batch in batches] for step in steps], BATCH
    if runtime == "onnx_generator":
        from keras_dynnets.export import onnx_generator

        onnx_generator.write(model, None, folder / "generator.onnx", 1)
        session = onnx.runner(folder / "generator.onnx", threads)
        runs = [lambda image: session(images=image), call_in("onnx", plain, 1, threads, folder)]
    else:
        runs = []
        for network, place in ((switching(model), folder / "levels"), (plain, folder / "plain")):
            place.mkdir()
            runs.append(call_in(runtime, network, 1, threads, place))
    return [lambda x, run=run: [run(image[None]) for image in x[:32]] for run in runs], 1
