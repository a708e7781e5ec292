"""What calls what in a functional Keras model."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import keras_private
from keras_dynnets.core.dynamic import DynamicModel

ACTIVATIONS = (
    "Relu",
    "Relu6",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Gelu",
    "Silu",
    "HardSilu",
    "HardSigmoid",
    "Tanh",
    "Sigmoid",
)  # operations of keras.ops, by the names of their classes


def is_activation(operation: Any) -> bool:
    """Says whether an operation of `keras.ops` treats every value by itself, as activations do."""
    return type(operation).__name__ in ACTIVATIONS


def functional(model: keras.Model, task: str) -> keras.Model:
    """Gives the functional model that `model` is or, for a built `Sequential`, runs.

    Args:
        model: a functional or `Sequential` Keras model.
        task: what it is needed for; the error message starts with it.

    Raises:
        ValueError: `model` is of another kind, or a `Sequential` without an input shape.
    """
    takes = f"{task} takes a functional or Sequential Keras model"
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"{takes} of a known input shape, and this Sequential has no input shape yet: begin it "
            "with keras.Input(shape), or call model.build(input_shape)"
        )
    network = keras_private.functional_inside(model)
    if keras_private.is_plain_functional(network):
        if kinds := keras_private.quantised(network):
            raise ValueError(
                f"{task} takes a network in floating point, and {network.name} has "
                f"{', '.join(kinds)} weights; convert it before model.quantize"
            )
        return network
    if isinstance(model, DynamicModel):
        raise ValueError(
            f"{takes}, not {type(model).__name__}, which is dynamic already: give the plain "
            "network that it was made of, or model.inference_network()"
        )
    if isinstance(model, keras.Model):
        raise ValueError(
            f"{takes}, not {type(model).__name__}, whose layers it cannot follow: build it as "
            "keras.Model(inputs, outputs)"
        )
    if isinstance(model, (str, os.PathLike)):
        raise ValueError(
            f"{takes}, not {type(model).__name__} {str(model)!r}: load it, "
            f"keras.models.load_model({str(model)!r}) or keras_dynnets.zoo.load({str(model)!r})"
        )
    what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
    raise ValueError(f"{takes}, not {what}: build one, keras.Model(inputs, outputs)")


def inference(model: Any) -> Any:
    """Gives the functional model that inference runs; anything that is no model unchanged."""
    if isinstance(model, DynamicModel):
        return model.inference_network()
    return keras_private.functional_inside(model)


def set_weights(layer: keras.Layer, weights: list[np.ndarray]) -> None:
    """Sets the weights of a layer, and what a layer such as `Normalization` derives from them."""
    layer.set_weights(weights)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()


def nodes(network: keras.Model) -> list:
    """Gives every call in a functional model in running order, those of its inputs included."""
    by_depth = keras_private.nodes_by_depth(network)
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def run_again(
    some: Iterable,
    values: dict[int, Any],
    operation: Callable[[Any], Any] = lambda node: node.operation,
    training: bool | None = None,
) -> None:
    """Makes calls of a functional model once more, on other tensors.

    Args:
        some: nodes (calls) in running order.
        values: the new tensors by the ids of the old ones that no call in `some` makes. The
            results of the calls are added to it.
        operation: gives what is called in place of a node's own operation.
        training: the value of `training` for layers that take it; None keeps the value that
            they had when the network was made.
    """
    for node in some:
        args, kwargs = node.arguments.fill_in(values)
        called = operation(node)
        own = called is node.operation
        if own and training is not None and keras_private.takes_training(called):
            kwargs = {**kwargs, "training": training}
        results = keras.tree.flatten(called(*args, **kwargs))
        values.update((id(old), new) for old, new in zip(node.outputs, results, strict=True))


class CallGraph:
    """The calls of a functional model: what makes each tensor and what reads it.

    Args:
        network: a functional model.

    Attributes:
        network: the model.
        nodes: its calls in running order, without those of the inputs.
    """

    def __init__(self, network: keras.Model):
        self.network = network
        self.nodes = [node for node in nodes(network) if not node.is_input]
        self._producer, self._readers = {}, {}
        for node in self.nodes:
            for tensor in node.arguments.keras_tensors:
                self._readers.setdefault(id(tensor), []).append(node)
            for tensor in node.outputs:
                self._producer[id(tensor)] = node
        self._outputs = {id(tensor) for tensor in network.outputs}

    def producer(self, tensor: keras.KerasTensor) -> Any:
        """Gives the call that makes a tensor; None for an input of the network."""
        return self._producer.get(id(tensor))

    def readers(self, tensor: keras.KerasTensor) -> list:
        """Gives the calls that read a tensor; a call that reads it twice is listed twice."""
        return self._readers.get(id(tensor), [])

    def is_output(self, tensor: keras.KerasTensor) -> bool:
        """Says whether a tensor is an output of the network."""
        return id(tensor) in self._outputs

    def calls_of(self, operation: Any) -> list:
        """Gives the calls of one layer or operation."""
        return [node for node in self.nodes if node.operation is operation]

    def needed_besides(self) -> list[list[str]]:
        """Lists for each call the results that later calls need besides its own.

        A network can be cut behind a call where that list is empty.

        Returns:
            A list in the order of `nodes`, of lists of the names of layers.
        """
        waiting = {tensor: len(readers) for tensor, readers in self._readers.items()}
        alive = {id(self.network.inputs[0]): "the image"}
        others = []
        for node in self.nodes:
            for tensor in node.arguments.keras_tensors:
                waiting[id(tensor)] -= 1
                if not waiting[id(tensor)]:
                    alive.pop(id(tensor), None)
            own = {id(tensor) for tensor in node.outputs}
            others.append([name for tensor, name in alive.items() if tensor not in own])
            alive |= {tensor: node.operation.name for tensor in own if waiting.get(tensor)}
        return others


def image_call_graph(model: keras.Model, task: str) -> CallGraph:
    """Gives the call graph of a network from images of a fixed size to one output.

    Args:
        model: a functional or `Sequential` Keras model.
        task: what it is needed for; the error message starts with it.

    Raises:
        ValueError: the model is of another kind, has several inputs or outputs, or takes images
            of any size.
    """
    network = functional(model, task)
    shapes = [tensor.shape for tensor in network.inputs]
    takes = (
        f"{task} takes a network with one input, images of a fixed size, (batch, height, width, "
        f"channels), and one output; {network.name!r} has "
    )
    if len(shapes) != 1:
        raise ValueError(f"{takes}{len(shapes)} inputs: give the part of it that reads the images")
    if len(shapes[0]) != 4:
        raise ValueError(f"{takes}an input {shapes[0]}: add the missing axis, 1 channel for gray")
    if None in shapes[0][1:]:
        raise ValueError(
            f"{takes}an input {shapes[0]}: build it on keras.Input with numbers for all sizes"
        )
    if len(network.outputs) != 1:
        raise ValueError(
            f"{takes}{len(network.outputs)} outputs: choose one, keras.Model(model.input, "
            "model.outputs[0])"
        )
    return CallGraph(network)
