"""What calls what in a functional Keras model."""

import keras


def functional(model, task):
    """The functional model that `model` is or, being a built `Sequential`, runs.

    Raises:
        ValueError: it is neither; the message says that `task` takes no other.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(f"this Sequential has no input shape yet: model.build(input_shape), then {task}")
    network = getattr(model, "_functional", model)
    if not isinstance(network, keras.Model) or type(network).__name__ != "Functional":  # keras.Model makes such
        raise ValueError(f"{task} takes a functional or Sequential Keras model, not {type(model).__name__}")
    return network


def inference(model):
    """The functional model that inference runs of a model; of anything else, itself.

    A model of ours that has more for its training says so by a method `inference_network()`.
    """
    if hasattr(model, "inference_network"):
        return model.inference_network()
    return getattr(model, "_functional", model)  # what a built Sequential runs


def set_weights(layer, weights):
    """`layer.set_weights`, with what a layer such as an adapted `Normalization` makes of them."""
    layer.set_weights(weights)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()


def nodes(network):
    """Every call in a functional model, in running order; its inputs are calls too."""
    return [node for _, nodes in sorted(network._nodes_by_depth.items(), reverse=True) for node in nodes]


def calls(network):
    """Every call of a layer, in running order: the layer and its first input's shape. Models inside are entered.

    Raises:
        ValueError: a model inside is called on another size than it is made for, on which its cost depends.
    """
    for node in nodes(network):
        layer = node.operation
        if node.is_input or not isinstance(layer, keras.Layer):
            continue
        shape = node.arguments.keras_tensors[0].shape
        inner = inference(layer)
        if not isinstance(inner, keras.Function):
            yield layer, shape
            continue
        if inner.inputs[0].shape[1:] != shape[1:]:
            raise ValueError(
                f"model {layer.name!r} is made for inputs {inner.inputs[0].shape[1:]} and called on {shape[1:]} in "
                f"{network.name!r}: its cost depends on that, so make it for the size that it is called on"
            )
        yield from calls(inner)


def run_again(some, values, operation=lambda node: node.operation, training=None):
    """Makes calls once more, on other tensors.

    Args:
        some: nodes in running order.
        values: the new tensors by the ids of the old ones that nothing in `some` makes; takes up all
            that the calls give.
        operation: what is called in place of a node's own operation, a function of the node.
        training: what layers that ask for it are told, whatever they were told when the network was made; None leaves that.
    """
    for node in some:
        args, kwargs = node.arguments.fill_in(values)
        called = operation(node)
        if called is node.operation and training is not None and "training" in getattr(called, "_call_context_args", {}):
            kwargs = {**kwargs, "training": training}
        results = keras.tree.flatten(called(*args, **kwargs))
        values.update((id(old), new) for old, new in zip(node.outputs, results, strict=True))
