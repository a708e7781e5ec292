"""What stands before the first layers with weights, and belongs to every sub-model."""

from typing import Any

import keras

from keras_dynnets.core import graph, keras_private

NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)


class Preprocessing:
    """The calls of a network that need no result of a layer whose weights are trained.

    Such are `Rescaling`, `Normalization` (what it has adapted to is not trained), `Resizing`,
    `RandomFlip`, a `Lambda`, or operations such as `x / 255`. A norm on the images is one of them,
    although its scale and offset are trained. All sub-models read their results, so that a random
    layer is drawn once for all of them, and a norm has one set of statistics.

    Args:
        calls: the calls of a network with one input.
        name: name of what the step-down convolutions read, or None, as for `find`. Norms that
            this does not need are no preprocessing then.

    Attributes:
        nodes: the calls in running order.
        values: the input and the results of these calls, by their ids.
    """

    def __init__(self, calls: graph.CallGraph, name: str | None = None):
        self.calls = calls
        self.image = calls.network.inputs[0]
        self._collect([node for node in calls.nodes if prepares(node.operation)])
        if name is not None:
            needed = self.needed_for(self._named(name))
            self._collect([n for n in self.nodes if n in needed or not learns(n.operation)])

    def _collect(self, allowed: list) -> None:
        """Finds the calls, of some that are allowed, that need no results of others."""
        self.nodes = []
        self.values: dict[int, keras.KerasTensor] = {id(self.image): self.image}
        for node in allowed:
            if all(id(tensor) in self.values for tensor in node.arguments.keras_tensors):
                self.nodes.append(node)
                self.values |= {id(tensor): tensor for tensor in node.outputs}

    @property
    def input_name(self) -> str:
        """Name of the input of the network, which stands for the images as they are given."""
        nodes = graph.nodes(self.calls.network)
        return next(node.operation.name for node in nodes if node.is_input)

    def find(self, name: str | None) -> keras.KerasTensor:
        """Finds what the step-down convolutions read.

        Args:
            name: name of the layer or operation that gives it, or of the input; None for what
                the first layers with weights behind such norms read, without a `ZeroPadding2D`
                before them, whose zeros a step-down convolution has no use for.

        Raises:
            ValueError: there is none of that name; or, without a name, several layers with
                weights read images that are prepared in different ways, or a model inside the
                network prepares them itself.
        """
        if name is not None:
            return self._named(name)
        found: dict[int, keras.KerasTensor] = {}
        for node in self.calls.nodes:
            if node in self.nodes or not learns(node.operation):
                continue
            for tensor in node.arguments.keras_tensors:
                if id(tensor) in self.values:
                    self._refuse_inner(node.operation)
                    tensor = self._without_zeros(tensor)
                    if _is_map(tensor):
                        found.setdefault(id(tensor), tensor)
        if not found:
            return self.image
        for tensor in found.values():
            others = [other for other in found.values() if other is not tensor]
            if all(id(tensor) in self._ancestors(other) for other in others):
                return tensor
        raise ValueError(
            f"{self.calls.network.name} prepares its images in several ways, "
            f"{', '.join(map(self._name, found.values()))}, and a step-down convolution reads one: "
            "give its name as preprocessing="
        )

    def needed_for(self, tensor: keras.KerasTensor) -> list:
        """Gives the calls that a result needs, its own included, in running order."""
        ancestors = {*self._ancestors(tensor), id(tensor)}
        return [n for n in self.nodes if any(id(result) in ancestors for result in n.outputs)]

    def name_of(self, tensor: keras.KerasTensor) -> str:
        """Gives the name by which `find` finds a tensor."""
        node = self.calls.producer(tensor)
        return self.input_name if node is None else node.operation.name

    def _named(self, name: str) -> keras.KerasTensor:
        named = {self.input_name: self.image}
        for node in self.nodes:
            if len(node.outputs) == 1 and _is_map(node.outputs[0]):
                named[node.operation.name] = node.outputs[0]
        if name not in named:
            raise ValueError(
                "preprocessing is the name of what stands before the first layer with weights and "
                f"gives images of a fixed size, {', '.join(map(repr, named))}, not {name!r}"
            )
        return named[name]

    def _name(self, tensor: keras.KerasTensor) -> str:
        return repr(self.name_of(tensor))

    def _without_zeros(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        node = self.calls.producer(tensor)
        while node is not None and isinstance(node.operation, keras.layers.ZeroPadding2D):
            tensor = node.arguments.keras_tensors[0]
            node = self.calls.producer(tensor)
        return tensor

    def _ancestors(self, tensor: keras.KerasTensor) -> set[int]:
        """Gives the ids of the tensors that a result of the preprocessing is computed from."""
        waiting, seen = [tensor], set()
        while waiting:
            node = self.calls.producer(waiting.pop())
            for read in node.arguments.keras_tensors if node else ():
                if id(read) not in seen:
                    seen.add(id(read))
                    waiting.append(read)
        return seen

    def _refuse_inner(self, layer: Any) -> None:
        """Refuses a model inside the network that prepares the images itself."""
        inner = keras_private.functional_inside(layer)
        if not isinstance(inner, keras.Function) or len(inner.inputs) != 1:
            return
        own = Preprocessing(graph.CallGraph(inner))
        tensor = own.find(None)
        if tensor is not own.image:
            raise ValueError(
                f"model {layer.name!r} inside {self.calls.network.name} prepares its images itself "
                f"(behind {own.name_of(tensor)!r}), where no step-down convolution can read them: "
                f"build {layer.name} on the images' tensor (input_tensor= in keras.applications) "
                "so that its layers are the network's own"
            )


def learns(operation: Any) -> bool:
    """Says whether an operation is a layer with weights that training changes, if not frozen."""
    return isinstance(operation, keras.Layer) and bool(keras_private.learned_variables(operation))


def prepares(operation: Any) -> bool:
    """Says whether an operation learns nothing, or is a norm or a model of such operations."""
    inner = keras_private.functional_inside(operation)
    if isinstance(inner, keras.Function):
        return all(map(prepares, inner.operations))
    return isinstance(operation, NORMS) or not learns(operation)


def _is_map(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) == 4 and None not in tensor.shape[1:]
