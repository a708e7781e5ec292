"""Gates set from outside, to run a DMNN at an exact rate."""

import keras

from keras_dynnets.families.dmnn.multi_path import MultiPath
from keras_dynnets.families.dmnn.path_controller import PathController

FORCE = 1e4  # far beyond any logit


def with_forced_gates(model):
    """The network of a DMNN with a second input that decides its gates.

    The controllers still do all their work: `forced` (batch, blocks, sub_blocks) is
    added to the difference of their logits, `FORCE` opens a gate, `-FORCE` closes it.

    Returns:
        A functional model sharing the layers of `model`: inputs "images" and
        "forced", outputs "logits" and "gates".
    """
    network = model.with_gates()
    images = keras.Input(model.input_shape[1:], name="images")
    forced = keras.Input(network.output["gates"].shape[1:], name="forced")
    block = iter(range(forced.shape[1]))

    def call(layer, *args, **kwargs):
        if isinstance(layer, PathController):
            kwargs["forced"] = forced[:, next(block)]
        return layer(*args, **kwargs)

    return keras.models.clone_model(
        keras.Model([network.input, keras.Input(forced.shape[1:])], network.output),
        input_tensors=[images, forced],
        clone_function=lambda layer: layer,
        call_function=call,
    )


def without_gates(model):
    """The same layers as a plain network: every path always runs, there are no controllers.

    The reference that savings are measured against. Shares the layers of `model`.
    """
    network = model.with_gates()

    def call(layer, *args, **kwargs):
        if not isinstance(layer, MultiPath):
            return layer(*args, **kwargs)
        inputs, _, shortcut = args
        return keras.layers.Add(name=f"{layer.name}_sum")(
            [shortcut, *(path(inputs) for path in layer.paths)]
        )

    plain = keras.models.clone_model(
        network, clone_function=lambda layer: layer, call_function=call
    )
    return keras.Model(plain.input, plain.output["logits"], name=f"{model.name}_without_gates")
