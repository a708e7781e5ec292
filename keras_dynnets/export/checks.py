"""What `export_model` refuses before it does any work."""

from pathlib import Path

import keras
import numpy as np

from keras_dynnets.core import keras_private
from keras_dynnets.core.conditional import GatedBranches, NetworkSwitch, gated_layers
from keras_dynnets.core.dynamic import Deployment, interface
from keras_dynnets.core.images import checked_shape
from keras_dynnets.export.formats.base import PRECISIONS, Format


def check_request(
    deployment: Deployment,
    target: Format,
    path: Path,
    precision: str,
    batch_size: int | None,
) -> int | None:
    """Refuses a request that the format or the model cannot fulfil.

    Args:
        deployment: what the file is to hold.
        target: the format of the file.
        path: of the file or folder.
        precision: what the user asks for.
        batch_size: what the user asks for; None for any number of images a call.

    Returns:
        The batch size of the file: the one asked for or, where the format does not have it, the
        format's own.

    Raises:
        ValueError: the request cannot be fulfilled.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"exports start from TensorFlow graphs and Keras runs on {keras.backend.backend()}: "
            "load the model with KERAS_BACKEND=tensorflow"
        )
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision {precision!r} is unknown; it is one of {', '.join(PRECISIONS)}"
        )
    if precision not in target.precisions:
        raise ValueError(
            f"{target.name} files have no {precision}, but {', '.join(target.precisions)}"
        )
    wrong_format = deployment.formats is not None and target.name not in deployment.formats
    if wrong_format or precision not in (deployment.precisions or PRECISIONS):
        raise ValueError(
            f"format={target.name!r} with precision={precision!r} is refused: {deployment.reason}"
        )
    if deployment.single is None and target.marker(True) and path.suffix:
        raise ValueError(
            f"all networks of {deployment.name} together make a folder in the format "
            f"{target.name}; give its name, without {path.suffix!r}"
        )
    if batch_size in target.batch_sizes:
        return batch_size
    if batch_size in (None, 1):
        return target.batch_sizes[0]
    if not target.fixed_batches:
        there = ", ".join(map(str, target.batch_sizes))
        raise ValueError(
            f"batch_size={batch_size} is refused: {target.name} files have a batch size of {there}"
        )
    decides = any(has_conditions(network) for network in deployment.networks.values())
    if decides and not target.fixed_batches_with_conditions:
        there = " or ".join("any number" if n is None else str(n) for n in target.batch_sizes)
        raise ValueError(
            f"batch_size={batch_size} is refused: {deployment.name} decides for each image what to "
            f"run, and a {target.name} file of such a network takes {there} a call"
        )
    return batch_size


def has_conditions(network: keras.Model) -> bool:
    """Says whether a network has gated branches, or chooses among networks, at any depth.

    Args:
        network: a functional model.
    """
    layers = keras_private.flattened_layers(network)
    return any(isinstance(layer, (GatedBranches, NetworkSwitch)) for layer in layers)


def check_network(deployment: Deployment, target: Format, precision: str) -> None:
    """Refuses networks that do not lead from an image of a fixed size to logits.

    Args:
        deployment: what the file is to hold.
        target: the format of the file.
        precision: precision of the file.

    Raises:
        ValueError: the network has other inputs or outputs, its weights are quantised, or its
            gates cannot be written.
    """
    network = deployment.main
    functional = keras_private.is_functional(network)
    one_image = functional and len(network.inputs) == 1 and len(network.inputs[0].shape) == 4
    if not one_image or None in network.inputs[0].shape[1:]:
        raise ValueError(
            "an export takes a functional or built Sequential Keras model with one input of images "
            f"of a fixed size; this is {type(network).__name__} {deployment.name!r}"
        )
    if kinds := keras_private.quantised(network):
        raise ValueError(
            f"{deployment.name} holds layers with {', '.join(kinds)} weights, which the formats "
            "do not have; export it before model.quantize, for 8-bit integers with "
            "precision='int8'"
        )
    if not hasattr(interface(network).logits_tensor, "shape"):
        raise ValueError(
            f"{deployment.name} has several outputs; an export takes a model whose one output is "
            "the logits"
        )
    gated = gated_layers(network)
    if gated and precision == "int8":
        raise ValueError(
            f"{deployment.name} has gates, and int8 takes networks without; give precision='fp16'"
        )
    if target.reaches_inside:
        return
    if set(gated) - set(network.layers):
        raise ValueError(
            f"{deployment.name} holds a network with gates as a layer, and {target.name} cannot "
            "reach gates there; build on that network's own graph instead: "
            "keras.Model(gated.input, new_head(gated.get_layer('pool').output))"
        )


def check_images(
    deployment: Deployment,
    precision: str,
    calibration: np.ndarray | None,
) -> None:
    """Refuses calibration images that do not fit the network.

    Args:
        deployment: what the file is to hold.
        precision: precision of the file.
        calibration: images, (n, height, width, channels), or None.

    Raises:
        ValueError: there are no images for "int8", or images of another shape.
    """
    network = deployment.main
    if calibration is not None:
        checked_shape(calibration, network.inputs[0].shape[1:], "calibration")
    elif precision == "int8":
        raise ValueError(
            "int8 needs calibration=images: some hundred images, (n, height, width, channels) in "
            "[0, 255], of the kind that the file will see"
        )
