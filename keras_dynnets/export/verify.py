"""An exported file against Keras, in the runtime that it is for."""

from collections.abc import Callable

import keras
import numpy as np

from keras_dynnets.core import keras_private
from keras_dynnets.core.conditional import switch_of
from keras_dynnets.export.deployment import deploy
from keras_dynnets.export.scores import SMALL, gate_scores, images_at_once, nearest

# The largest difference of a logit that is allowed, as a share of the largest logit. fp32: runtimes
# add numbers in different orders. fp16: the network that a file is compared with has the same
# rounded weights, but a converter that multiplies two constants rounds their product once more,
# by 2^-11 at most. int8: every value is rounded to one of 256.
TOLERANCE = {"fp32": 1e-4, "fp16": 2**-11, "int8": 0.15}

FLIPS = 0.1  # share of the user's images for which other gates than in Keras may open
FEW = 16  # of fewer images than these, or of made-up ones, any number may

MADE_UP = 4  # number of made-up images that a file is compared with Keras on
GIVEN = 256  # largest number of the user's images of up to `SMALL` pixels
GIVEN_LARGE = 32  # largest number of the user's larger images


class ExportError(RuntimeError):
    """A file that its runtime does not load, or whose results differ from Keras's."""


def verification_images(
    network: keras.Model,
    images: np.ndarray | None = None,
    batch_size: int | None = None,
    count: int | None = None,
) -> tuple[np.ndarray, int]:
    """Picks images that take paths as different as can be found.

    Args:
        network: a functional model with outputs "logits" and, if it has gates, "gates"; or one
            that chooses among networks.
        images: images to pick from, (n, height, width, channels) in [0, 255]; None for made-up
            ones, from flat to noisy and of many colours.
        batch_size: that of the file; at least so many images are picked, as far as there are.
        count: how many to pick; None for `MADE_UP` made-up ones, or `GIVEN` of those given, or
            `GIVEN_LARGE` if they are large.

    Returns:
        The images, float32, and the number of different paths among them.
    """
    shape = network.inputs[0].shape[1:]
    if count is None:
        given = GIVEN if shape[0] * shape[1] <= SMALL else GIVEN_LARGE
        count = max(MADE_UP if images is None else given, batch_size or 1)
    made_up = _made_up(shape)
    images = None if images is None else np.asarray(images, "float32")
    if switch := switch_of(network):
        images, paths = switch.verification_images(images, made_up, count)
        return np.asarray(images, "float32"), paths
    images = made_up if images is None else images
    outputs = keras_outputs(network, images)
    if "gates" not in outputs:
        return images[:count], 1
    gates = outputs["gates"].reshape(len(images), -1)
    chosen, distance = [0], np.full(len(images), np.inf)
    while len(chosen) < min(count, len(images)):
        distance = np.minimum(distance, np.abs(gates - gates[chosen[-1]]).sum(-1))
        distance[chosen[-1]] = -1
        chosen.append(int(distance.argmax()))
    return images[chosen], len(np.unique(gates[chosen], axis=0))


def _made_up(shape: tuple, count: int = 24) -> np.ndarray:
    """Makes images whose contrast, colour and coarseness all vary."""
    rng = np.random.default_rng(0)
    height, width, channels = shape
    images = []
    for i in range(count):
        cells = 2 ** (i % 6)
        colour = rng.uniform(0, 255, channels)
        coarse = rng.normal(colour, 8.0 * 2 ** (i % 5), (cells, cells, channels))
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        images.append(coarse[rows][:, columns])
    return np.clip(images, 0, 255).astype("float32")


def keras_outputs(network: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Gives the outputs of a functional model by name, as arrays.

    Args:
        network: a functional model; its output is called "logits" where it has only one.
        images: (n, height, width, channels).
    """
    batch_size = images_at_once(images)
    batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    results = [network(batch, training=False) for batch in batches]
    results = [r if isinstance(r, dict) else {"logits": r} for r in results]
    return {name: np.concatenate([np.asarray(r[name]) for r in results]) for name in results[0]}


def run_file(
    run: Callable[..., dict], images: np.ndarray, batch_size: int | None
) -> dict[str, np.ndarray]:
    """Gives the outputs of a file for all images, through the one session that `run` holds.

    Args:
        run: the file as a function, see `Format.runner`.
        images: (n, height, width, channels).
        batch_size: that of the file, to which the last images are filled up; None for any number
            of images a call, of which two numbers are then tried.
    """
    if batch_size is None:
        batches = [images, images[:1]]
    else:
        batches = [
            np.resize(images[i : i + batch_size], (batch_size, *images.shape[1:]))
            for i in range(0, len(images), batch_size)
        ]
    results = [run(images=batch) for batch in batches]
    joined = {name: np.concatenate([r[name] for r in results]) for name in results[0]}
    return {name: values[: len(images)] for name, values in joined.items()}


def relative_differences(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Gives the largest difference of a logit of each image, in parts of the largest logit.

    Args:
        found: logits of a file, (n, classes).
        wanted: logits of Keras, (n, classes).
    """
    difference = np.where(np.isfinite(found), np.abs(found - wanted), np.inf)
    return difference.max(-1) / max(1.0, float(np.abs(wanted).max()))


def compare(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float, float]:
    """Compares logits.

    Args:
        found: logits of a file, (n, classes).
        wanted: logits of Keras, (n, classes).

    Returns:
        The largest difference, the mean difference, and the share of images with the same class
        first.
    """
    difference = np.abs(found - wanted)
    agreement = float((found.argmax(-1) == wanted.argmax(-1)).mean())
    return float(difference.max()), float(difference.mean()), agreement


def check(
    run: Callable[..., dict],
    network: keras.Model,
    images: np.ndarray,
    batch_size: int | None,
    precision: str,
    rounded: keras.Model | None = None,
    given: bool = True,
) -> tuple[float, float, float, int]:
    """Runs a file on images and compares its results with Keras's.

    Args:
        run: the file as a function.
        network: the network that the file was made from.
        images: images to run, (n, height, width, channels).
        batch_size: images a call; None for any number.
        precision: that of the file, one of `TOLERANCE`.
        rounded: for half precision, the network with the values that the file has; None to
            deploy `network` alone.
        given: whether the images are the user's, not made-up ones.

    Returns:
        The largest and the mean difference of the file's logits from those of `network`, the
        share of images with the same class first, and the number of images for which another
        gate opened than in `network`.

    Raises:
        ExportError: the results of an image differ by more than `TOLERANCE`, and none of its
            gates has a score so near 0 that rounding decides; or other gates opened for more
            of the user's images than `FLIPS` allows. A half-precision file is compared with a
            network whose weights are rounded alike.
    """
    try:
        found = run_file(run, images, batch_size)
    except Exception as error:
        raise ExportError(f"the runtime loads the file but does not run it: {error}") from error
    layers = keras_private.flattened_layers(network, include_self=False)
    computes = {getattr(layer, "compute_dtype", "float32") for layer in layers}
    half = precision == "fp16"
    if computes == {"float32"} and not half:
        reference = network
    else:
        reference = rounded or deploy(network, "masked", half)
    wanted = keras_outputs(reference, images)
    for name, values in found.items():
        if values.shape != wanted[name].shape:
            raise ExportError(
                f"output {name!r} has shape {values.shape}, Keras gives {wanted[name].shape}"
            )
    scores, allowed = gate_scores(reference, images), TOLERANCE[precision]
    undecided = nearest(scores) <= allowed
    relative = relative_differences(found["logits"], wanted["logits"])
    wrong = ~(relative <= allowed) & (~undecided | np.isinf(relative))
    if wrong.any():
        raise ExportError(
            f"its logits differ from Keras's by {relative[wrong].max():.2e} of the largest; "
            f"{allowed:.2e} is allowed"
        )
    flipped = ~(relative <= allowed)
    if "gates" in found:
        different = (found["gates"] != wanted["gates"]).reshape(len(images), -1)
        if different[~undecided].any():
            raise ExportError(f"{int(different[~undecided].sum())} gates differ from Keras's")
        flipped |= different.any(1)
    exact = wanted["logits"]
    if half:
        exact = keras_outputs(network, images)["logits"]
        flipped |= ((scores > 0) != (gate_scores(network, images) > 0)).any(1)
    flips = int(flipped.sum())
    if given and len(images) >= FEW and flips > FLIPS * len(images):
        raise ExportError(
            f"for {flips} of {len(images)} images other gates open than in Keras, and a share of "
            f"{FLIPS} is allowed" + ("; give precision='fp32'" if half else "")
        )
    return *compare(found["logits"], exact), flips
