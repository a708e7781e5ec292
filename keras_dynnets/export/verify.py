"""An exported file against Keras, in the runtime that it is for."""

import numpy as np

from keras_dynnets.export.deploy import deploy
from keras_dynnets.export.level_switch import LevelSwitch
from keras_dynnets.layers.input_complexity import complexity

# Of the largest logit. Float32: sums in another order. Half precision is held against weights rounded alike, but where a
# converter multiplies two constants, it rounds once more: by 2^-11 at most. 8-bit integers round every value to one of 256.
TOLERANCE = {"fp32": 1e-4, "fp16": 2**-11, "int8": 0.15}

MARGIN = 0.002  # of complexity; a file in half precision has it within 0.0005 (measured on CIFAR-10)


class ExportError(RuntimeError):
    """A file that its runtime does not load, or runs to another result than Keras."""


def verification_images(network, images=None, count=4):
    """A few images that take paths as different as can be found.

    Args:
        network: functional model with outputs "logits" and, if it has gates, "gates"; or with a `LevelSwitch`, whose
            choice may fall otherwise by rounding close to a bound: such images are not taken.
        images: candidates, (n, height, width, 3) in [0, 255]; default: made-up ones
            from flat to noisy, of many colours.
        count: how many to choose.

    Returns:
        The images, float32, and the number of different gate patterns or levels among them.
    """
    switch = next((layer for layer in network.layers if isinstance(layer, LevelSwitch)), None)
    if images is None:
        images = _made_up(network.inputs[0].shape[1:])
        if switch:
            images = np.concatenate([images, _of_complexities(images[0].shape, switch.bounds)])
    images = np.asarray(images, "float32")
    if switch:
        return _of_all_levels(switch, images, count)
    outputs = keras_outputs(network, images)
    if "gates" not in outputs:
        return images[:count], 1
    gates = outputs["gates"].reshape(len(images), -1)
    chosen = [0]
    while len(chosen) < min(count, len(images)):
        distance = np.abs(gates[:, None] - gates[chosen][None]).sum(-1).min(-1)
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return images[chosen], len(np.unique(gates[chosen], axis=0))


def _of_all_levels(switch, images, count):
    found = complexity(images)
    clear = np.flatnonzero(np.abs(found[:, None] - switch.bounds).min(1) > MARGIN)
    if not len(clear):
        raise ExportError("every image to verify with has a complexity on the border of two levels; give others")
    places = np.searchsorted(switch.bounds, found[clear], side="left")
    _, first = np.unique(places, return_index=True)
    order = [*first, *np.setdiff1d(np.arange(len(clear)), first)][: max(count, len(first))]
    return images[clear[order]], len(first)


def _made_up(shape, count=24):
    """Images whose contrast, colour and coarseness all vary."""
    rng = np.random.default_rng(0)
    height, width, channels = shape
    images = []
    for i in range(count):
        cells = 2 ** (i % 6)
        coarse = rng.normal(rng.uniform(0, 255, channels), 8.0 * 2 ** (i % 5), (cells, cells, channels))
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        images.append(coarse[rows][:, columns])
    return np.clip(images, 0, 255)


def _of_complexities(shape, bounds):
    """Images between every two bounds: noise, its strength found by halving."""
    noise = np.random.default_rng(0).uniform(0, 1, shape)
    images = []
    for wanted in [bounds[0] / 2, *np.add(bounds[:-1], bounds[1:]) / 2, bounds[-1] + MARGIN * 1.5]:
        low, high = 0.0, 255.0
        for _ in range(20):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if complexity(middle * noise[None])[0] < wanted else (low, middle)
        images.append(high * noise)
    return np.array(images)


def keras_outputs(network, images, batch_size=8):
    """Outputs of a functional model by name, as arrays."""
    batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    results = [network(batch, training=False) for batch in batches]
    results = [r if isinstance(r, dict) else {"logits": r} for r in results]
    return {name: np.concatenate([np.asarray(r[name]) for r in results]) for name in results[0]}


def run_file(run, images, batch_size):
    """Outputs of a file for all images, through the one session that `run` holds."""
    if batch_size is None:
        batches = [images, images[:1]]  # any size means more than one size
    else:
        batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    results = [run(images=batch) for batch in batches]
    joined = {name: np.concatenate([r[name] for r in results]) for name in results[0]}
    return {name: values[: len(images)] for name, values in joined.items()}


def compare(found, wanted):
    """Differences of the logits: (largest, mean, top-1 agreement in [0, 1], largest in units of the largest logit)."""
    difference = np.abs(found - wanted)
    scale = max(1.0, float(np.abs(wanted).max()))
    largest = float(difference.max()) if np.isfinite(found).all() else float("inf")
    agreement = float((found.argmax(-1) == wanted.argmax(-1)).mean())
    return largest, float(difference.mean()), agreement, largest / scale


def check(run, network, images, batch_size, precision, rounded=None):
    """Runs a file on images and holds it against Keras.

    Args:
        run: the file as a function. network: what it was made from. images, batch_size: what it is run on.
        precision: of the file, one of `TOLERANCE`.
        rounded: for half precision, the network with the values that the file has; default: deployed alone.

    Returns:
        Largest and mean difference of the file's logits from those of `network` as it is, and
        the top-1 agreement.

    Raises:
        ExportError: the results differ by more than its `TOLERANCE`, or other gates opened. A
            half-precision file is held against Keras with weights rounded in the same way.
    """
    try:
        found = run_file(run, images, batch_size)
    except Exception as error:
        raise ExportError(f"the runtime loads the file but does not run it: {error}") from error
    computes = {getattr(layer, "compute_dtype", "float32") for layer in network._flatten_layers(include_self=False)}
    half = precision == "fp16"
    plain = computes == {"float32"} and not half
    wanted = keras_outputs(network if plain else rounded or deploy(network, "masked", half), images)
    for name, values in found.items():
        if values.shape != wanted[name].shape:
            raise ExportError(f"output {name!r} has shape {values.shape}, Keras gives {wanted[name].shape}")
    *_, relative = compare(found["logits"], wanted["logits"])
    allowed = TOLERANCE[precision]
    if not relative <= allowed:
        raise ExportError(f"its logits differ from Keras's by {relative:.2e} of the largest; {allowed:.2e} is allowed")
    if "gates" in found and (found["gates"] != wanted["gates"]).any():
        raise ExportError(f"{int((found['gates'] != wanted['gates']).sum())} gates differ from Keras's")
    return compare(found["logits"], keras_outputs(network, images)["logits"] if half else wanted["logits"])[:3]
