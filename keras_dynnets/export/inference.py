"""From a deployed Keras model to the TensorFlow function that the converters take."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    import tensorflow as tf


def inference_functions(
    parts: Mapping[str, keras.Model], batch_size: int | None = None, half: bool = False
) -> Any:
    """Gives the inference of deployed models that share weights.

    Args:
        parts: functional models from `deploy_parts`, by name.
        batch_size: see `inference_function`.
        half: see `inference_function`.

    Returns:
        A `tf.Module` that holds every weight once. Its attribute `calls` is a dict of the models'
        `tf.function`s by name.
    """
    import tensorflow as tf

    variables = {id(v): v for part in parts.values() for v in part.variables}
    module: Any = tf.Module()
    module.weights = [_stored(v, half) for v in variables.values()]
    values = dict(zip(variables, module.weights, strict=True))
    module.calls = {
        name: _function(part, values, batch_size, half, ("logits",)) for name, part in parts.items()
    }
    return module


def inference_function(
    deployed: keras.Model,
    batch_size: int | None = None,
    half: bool = False,
    outputs: Collection[str] = ("logits",),
) -> Any:
    """Gives the inference of one deployed model.

    Args:
        deployed: a functional model from `deploy`.
        batch_size: number of images in a call, or None for any number.
        half: whether weights are stored as float16; the arithmetic is in float32 all the same.
        outputs: names of the wanted outputs; the output of a model with one is called "logits".

    Returns:
        A `tf.Module` with the weights. Its attribute `call` is a `tf.function` from the model's
        inputs, by position, to a dict of the outputs. The weights are plain variables, since the
        converters lose those that Keras wraps.
    """
    import tensorflow as tf

    module: Any = tf.Module()
    module.weights = [_stored(v, half) for v in deployed.variables]
    values = {id(v): w for v, w in zip(deployed.variables, module.weights, strict=True)}
    module.call = _function(deployed, values, batch_size, half, outputs)
    return module


def _stored(variable: Any, half: bool) -> "tf.Variable":
    """Gives the plain variable that a file holds for one of Keras's."""
    import tensorflow as tf

    if not half:
        return variable.value
    value = tf.cast(variable.value, tf.float16)
    return tf.Variable(value, name=variable.name, trainable=False)


def _function(
    deployed: keras.Model,
    values: Mapping[int, Any],
    batch_size: int | None,
    half: bool,
    outputs: Collection[str],
) -> Any:
    """Gives inference as a `tf.function`.

    Args:
        deployed: a functional model.
        values: the stored variables by the `id` of Keras's.
        batch_size: see `inference_function`.
        half: see `inference_function`.
        outputs: see `inference_function`.
    """
    import tensorflow as tf

    several = len(deployed.inputs) > 1
    names = [tensor.name for tensor in deployed.inputs] if several else ["images"]
    signature = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tf.float32, name=name)
        for tensor, name in zip(deployed.inputs, names, strict=True)
    ]

    def wanted(results):
        results = results if isinstance(results, dict) else {"logits": results}
        return {name: results[name] for name in outputs}

    def widened(variables):
        return [tf.cast(values[id(v)], tf.float32) for v in variables]

    @tf.function(input_signature=signature)
    def call(*inputs):
        given = [list(inputs)] if several else inputs
        if not half:
            return wanted(deployed(*given, training=False))
        results, _ = deployed.stateless_call(
            widened(deployed.trainable_variables),
            widened(deployed.non_trainable_variables),
            *given,
            training=False,
        )
        return wanted(results)

    return call
