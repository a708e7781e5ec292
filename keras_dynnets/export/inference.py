"""A deployed Keras model to the TensorFlow function that the converters take."""


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

    dtype = tf.float16 if half else tf.float32
    module = tf.Module()
    if half:
        module.weights = [
            tf.Variable(tf.cast(v.value, dtype), name=v.name, trainable=False) for v in deployed.variables
        ]
    else:
        module.weights = [v.value for v in deployed.variables]
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
        values = {id(v): tf.cast(w, tf.float32) for v, w in zip(deployed.variables, module.weights, strict=True)}
        of = lambda variables: [values[id(v)] for v in variables]  # noqa: E731
        results, _ = deployed.stateless_call(
            of(deployed.trainable_variables), of(deployed.non_trainable_variables), *packed(inputs), training=False
        )
        return wanted(results)

    module.call = call
    return module
