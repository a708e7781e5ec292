"""The convolutions of a network: what each reads, what follows it, which follow each other."""

from collections.abc import Collection, Iterable
from typing import Any

import keras

from keras_dynnets.core.copying import copied
from keras_dynnets.core.graph import CallGraph, is_activation

DROPOUTS = (keras.layers.Dropout, keras.layers.SpatialDropout2D)
# Layers and operations that may stand between two convolutions of a run.
BETWEEN = (
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    *DROPOUTS,
)


class ConvolutionGraph(CallGraph):
    """The calls of a functional model, seen from its convolutions.

    Args:
        network: a functional model.

    Attributes:
        calls: the calls of each layer or operation, in running order.
        convolutions: the convolutions in running order, each once.
        resolutions: their output resolutions, (height, width), in running order, each once.
    """

    def __init__(self, network: keras.Model):
        super().__init__(network)
        self.calls: dict[Any, list] = {}
        for node in self.nodes:
            self.calls.setdefault(node.operation, []).append(node)
        convolutions = [op for op in self.calls if isinstance(op, keras.layers.Conv2D)]
        self.convolutions: list[keras.Layer] = convolutions
        self.resolutions = list(dict.fromkeys(self.resolution(layer) for layer in convolutions))

    def input(self, layer: keras.Layer) -> keras.KerasTensor:
        """Gives the input of the first call of a layer."""
        return self.calls[layer][0].arguments.keras_tensors[0]

    def output(self, layer: keras.Layer) -> keras.KerasTensor:
        """Gives the output of the first call of a layer."""
        return self.calls[layer][0].outputs[0]

    def channels(self, layer: keras.Layer) -> int:
        """Gives the number of channels that a convolution reads."""
        return self.input(layer).shape[-1 if layer.data_format == "channels_last" else 1]

    def resolution(self, layer: keras.Layer) -> tuple[int | None, int | None]:
        """Gives the (height, width) of the output of a convolution; None for an open size."""
        shape = self.output(layer).shape
        return shape[1:3] if layer.data_format == "channels_last" else shape[2:]

    def unfit(self, layer: keras.Layer) -> str | None:
        """Says why units cannot replace a convolution; None if they can."""
        if len(self.calls[layer]) > 1:
            return "called more than once"
        if type(layer) is not keras.layers.Conv2D or layer.groups > 1:
            return "no plain full convolution"
        if layer.kernel_size == (1, 1):
            return "a 1x1 convolution, which mixes channels"
        if layer.padding != "same" or layer.dilation_rate != (1, 1):
            return "its padding is not 'same', or it is dilated"
        return None

    def runs(self, layers: Iterable[keras.Layer]) -> list[list[keras.Layer]]:
        """Groups convolutions into runs.

        Two convolutions follow each other directly if nothing but batch norm, activation and
        dropout is between them, and nothing else reads what is between.

        Args:
            layers: convolutions in running order.

        Returns:
            A list of runs, lists of convolutions that follow each other directly.
        """
        runs: list[list[keras.Layer]] = []
        run_that_ends_in: dict[Any, list] = {}
        for layer in layers:
            run = run_that_ends_in.pop(self._followed(layer), None)
            if run is None:
                runs.append(run := [])
            run.append(layer)
            run_that_ends_in[layer] = run
        return runs

    def reads_unmixed(self, layer: keras.Layer, places: Collection[str]) -> bool:
        """Says whether a layer reads results of units that no full layer has mixed yet.

        Args:
            layer: a convolution.
            places: names of the convolutions that units replace.
        """
        waiting, seen = [self.input(layer)], set()
        while waiting:
            node = self.producer(waiting.pop())
            if node is None or node in seen:
                continue
            seen.add(node)
            operation = node.operation
            if operation.name in places or getattr(operation, "groups", 1) > 1:
                return True
            if not isinstance(operation, (keras.layers.Conv2D, keras.layers.Dense, keras.Model)):
                waiting += node.arguments.keras_tensors
        return False

    def followers(self, layer: keras.Layer) -> list[keras.Layer]:
        """Makes copies of the batch norm, if any, and of the activation behind a convolution.

        They stand between the two layers of the units that replace it. Where the convolution has
        no activation, neither its own nor a following one, the copy is a ReLU.
        """
        norm = None
        own = layer.activation is not keras.activations.linear
        activation = layer.activation if own else keras.activations.relu
        name = f"{layer.name}_units_act"
        copy = keras.layers.Activation(activation, name=name, dtype=layer.dtype_policy)
        tensor = self.output(layer)
        while self._read_once(tensor) and _between(self.readers(tensor)[0].operation):
            node = self.readers(tensor)[0]
            follower = node.operation
            is_layer = isinstance(follower, keras.layers.Layer)
            if isinstance(follower, keras.layers.BatchNormalization):
                norm = norm or _renamed(follower, f"{layer.name}_units_bn")
            elif not own and is_layer and not isinstance(follower, DROPOUTS):
                copy, own = _renamed(follower, name), True
            tensor = node.outputs[0]
        return [norm, copy] if norm else [copy]

    def _read_once(self, tensor: keras.KerasTensor) -> bool:
        """Says whether one call alone reads a tensor, which is no output of the network."""
        return len(self.readers(tensor)) == 1 and not self.is_output(tensor)

    def _followed(self, layer: keras.Layer) -> keras.Layer | None:
        """Gives the convolution that a layer follows directly (see `runs`); None without one."""
        tensor = self.input(layer)
        while self._read_once(tensor) and (node := self.producer(tensor)):
            if isinstance(node.operation, keras.layers.Conv2D):
                return node.operation
            if not _between(node.operation):
                return None
            tensor = node.arguments.keras_tensors[0]
        return None


def _between(operation: Any) -> bool:
    return isinstance(operation, BETWEEN) or is_activation(operation)


def _renamed(layer: keras.Layer, name: str) -> keras.Layer:
    """Gives a trainable copy of a layer with another name."""
    return copied(layer, name=name, trainable=True)
