"""Networks of a DMNN whose gates are set from outside or left out, to measure what gates save."""

from typing import Any

import keras

from keras_dynnets.core.copying import rebuilt
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.families.dmnn.multi_path import MultiPath
from keras_dynnets.families.dmnn.path_controller import PathController

FORCE = 1e4  # far beyond any logit


def with_forced_gates(model: DMNN) -> keras.Model:
    """Gives the network of a DMNN with a second input that decides its gates.

    The controllers still do all their work. The second input is added to the difference of their
    logits: 1e4 opens a gate and -1e4 closes it.

    Args:
        model: a DMNN.

    Returns:
        A functional model that shares the layers of `model`. Its inputs are "images", (batch,
        height, width, 3), and "forced", (batch, blocks, sub_blocks). Its outputs are "logits",
        (batch, num_classes), and "gates", (batch, blocks, sub_blocks) of 0 and 1.

    Example:
        >>> model = zoo.load("dmnn20")
        >>> images, forced = np.zeros((1, 32, 32, 3)), np.full((1, 9, 2), -1e4)
        >>> dmnn.with_forced_gates(model)([images, forced])["gates"].numpy().sum()
        0.0
    """
    network = model.with_gates()
    images = keras.Input(model.input_shape[1:], name="images")
    forced = keras.Input(network.output["gates"].shape[1:], name="forced")
    block = iter(range(forced.shape[1]))

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, PathController):
            kwargs["forced"] = forced[:, next(block)]
        return layer(*args, **kwargs)

    two_inputs = keras.Model([network.input, keras.Input(forced.shape[1:])], network.output)
    return rebuilt(two_inputs, lambda layer: layer, call, [images, forced])


def without_gates(model: DMNN) -> keras.Model:
    """Gives the layers of a DMNN as a plain network, in which every sub-block runs.

    It has no controllers. What gates save is measured against this network.

    Args:
        model: a DMNN.

    Returns:
        A functional model that shares the layers of `model`, from images (batch, height, width,
        3) to logits (batch, num_classes).

    Example:
        >>> profile.count(dmnn.without_gates(zoo.load("dmnn20"))).path_macs
        ()
    """
    network = model.with_gates()

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(layer, MultiPath):
            return layer(*args, **kwargs)
        inputs, _, shortcut = args
        return keras.layers.Add(name=f"{layer.name}_sum")(
            [shortcut, *(path(inputs) for path in layer.paths)]
        )

    plain = rebuilt(network, lambda layer: layer, call)
    return keras.Model(plain.input, plain.output["logits"], name=f"{model.name}_without_gates")
