"""A deployed Keras model to the TensorFlow function that the converters take."""


def inference_functions(parts, batch_size=None, half=False):
    """A `tf.Module` with the weights of deployed models that share some, and a function of each.

    Args:
        parts: functional models by name.
        batch_size, half: as for `inference_function`.

    Returns:
        The module; `module.calls` has the models' `tf.function`s by name.
    """
    import tensorflow as tf

    variables = {id(v): v for part in parts.values() for v in part.variables}
    module = tf.Module()
    module.weights = [_stored(v, half) for v in variables.values()]
    values = dict(zip(variables, module.weights, strict=True))
    module.calls = {name: _function(part, values, batch_size, half, ("logits",)) for name, part in parts.items()}
    return module


def inference_function(deployed, batch_size=None, half=False, outputs=("logits",)):
    """A `tf.Module` with the weights of a deployed model and its inference as `call`.

    Args:
        deployed: a functional model from `deploy`.
        batch_size: a fixed batch size, or None.
        outputs: names of the wanted outputs; a model with a single one calls it "logits".
        half: whether the module stores its weights as float16; it computes in float32 all the same.

    Returns:
        The module; `module.call` is a `tf.function` from the model's inputs, by position, to a
        dict of the wanted outputs. The module holds plain variables, since the converters
        lose those that Keras wraps.
    """
    import tensorflow as tf

    module = tf.Module()
    module.weights = [_stored(v, half) for v in deployed.variables]
    values = {id(v): w for v, w in zip(deployed.variables, module.weights, strict=True)}
    module.call = _function(deployed, values, batch_size, half, outputs)
    return module


def _stored(variable, half):
    """The plain variable that a file holds for one of Keras's."""
    import tensorflow as tf

    if not half:
        return variable.value
    return tf.Variable(tf.cast(variable.value, tf.float16), name=variable.name, trainable=False)


def _function(deployed, values, batch_size, half, outputs):
    """Inference of a model as a `tf.function`; `values` are what is stored, by the ids of the variables."""
    import tensorflow as tf

    names = [tensor.name for tensor in deployed.inputs] if len(deployed.inputs) > 1 else ["images"]
    signature = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tf.float32, name=name)
        for tensor, name in zip(deployed.inputs, names, strict=True)
    ]

    def packed(inputs):
        return inputs if len(inputs) == 1 else [list(inputs)]

    def wanted(results):
        results = results if isinstance(results, dict) else {"logits": results}
        return {name: results[name] for name in outputs}

    @tf.function(input_signature=signature)
    def call(*inputs):
        if not half:
            return wanted(deployed(*packed(inputs), training=False))
        of = lambda variables: [tf.cast(values[id(v)], tf.float32) for v in variables]  # noqa: E731
        results, _ = deployed.stateless_call(
            of(deployed.trainable_variables), of(deployed.non_trainable_variables), *packed(inputs), training=False
        )
        return wanted(results)

    return call
