"""What a network computes, followed call by call on shapes alone, without any values.

A layer is followed into its own `call`: run on symbolic tensors, Keras records the operations of
`keras.ops` and the layers that it calls. So layers of Keras, of this library and of users are
treated alike, and so is a `Lambda`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from keras_dynnets.core import graph, keras_private

IMAGES = 2  # images in the batch that is followed; with one, `squeeze` would drop the batch

Whole = Callable[[keras.Layer], bool]


@dataclass(frozen=True)
class Call:
    """A call of a layer or of an operation of `keras.ops`.

    Attributes:
        operation: the layer, or the operation.
        args: its arguments, with `KerasTensor`s of known batch size as tensors.
        kwargs: its named arguments.
        images: number of images in the batch.
        inside: the calls that it is made of; None where it is not followed.
        outputs: its results, a flat list of `KerasTensor`s.
        times: how often it runs; None where that depends on an open size.
        is_graph: whether it is a call of a functional model.
        problem: why it cannot be followed; empty where it can.
    """

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    images: int = IMAGES
    inside: tuple["Call", ...] | None = field(default=None, repr=False)
    outputs: Sequence[keras.KerasTensor] = field(default=(), repr=False)
    times: int | None = 1
    is_graph: bool = False
    problem: str = ""

    @property
    def input_shape(self) -> tuple:
        """Shape of its first tensor, the batch first."""
        return _tensors((self.args, self.kwargs))[0].shape


def follow(network: Any, whole: Whole) -> list[Call]:
    """Follows a functional model for a small batch of images.

    Args:
        network: a functional model.
        whole: says whether a layer is not to be followed into what it is made of.

    Returns:
        Every call of the model in running order, those of its inputs left out.
    """
    images = network.inputs[0].shape[0] or IMAGES
    inputs = [_tensor((images, *old.shape[1:]), old) for old in network.inputs]
    return _followed(network, inputs, images, whole)[0]


def single_call(layer: keras.Layer, input_shape: tuple, whole: Whole) -> Call:
    """Follows one call of a layer.

    Args:
        layer: a Keras layer that takes one tensor.
        input_shape: shape of the tensor, the batch first.
        whole: see `follow`.
    """
    return _call(layer, (keras.KerasTensor((IMAGES, *input_shape[1:])),), {}, IMAGES, whole)


def _followed(
    network: Any, inputs: Sequence[keras.KerasTensor], images: int, whole: Whole
) -> tuple[list[Call], dict[int, keras.KerasTensor]]:
    """Follows a graph; gives its calls, and its new tensors by the ids of the old ones."""
    values = dict(zip(map(id, network.inputs), inputs, strict=True))
    found = []
    for node in graph.nodes(network):
        if node.is_input:
            continue
        args, kwargs = node.arguments.fill_in(values)
        call = _call(node.operation, args, kwargs, images, whole)
        values.update(zip(map(id, node.outputs), call.outputs, strict=True))
        found.append(call)
    return found, values


def _call(operation: Any, args: tuple, kwargs: dict[str, Any], images: int, whole: Whole) -> Call:
    call = Call(operation, args, kwargs, images)
    if not isinstance(operation, keras.Layer) or whole(operation):
        return _with_outputs(call)
    inner = graph.inference(operation)
    if keras_private.runs_its_graph(inner):
        return _functional(call, inner, whole)
    for kind, inside in LOOPS.items():
        if keras_private.computes_as(operation, (kind,)):
            return _with_outputs(replace(call, inside=inside(call, whole)))
    return _traced(call, whole)


def _with_outputs(call: Call) -> Call:
    results = call.operation.compute_output_spec(*call.args, **call.kwargs)
    return replace(call, outputs=keras.tree.flatten(results))


def _functional(call: Call, inner: Any, whole: Whole) -> Call:
    """Follows a call of a model; `inner` is the network that it runs."""
    found, values = _followed(inner, _tensors((call.args, call.kwargs)), call.images, whole)
    call = replace(call, inside=tuple(found), is_graph=True)
    if inner is not keras_private.functional_inside(call.operation):
        return _with_outputs(call)
    return replace(call, outputs=[values[id(old)] for old in inner.outputs])


def _traced(call: Call, whole: Whole) -> Call:
    """Follows the `call` of a layer on symbolic tensors."""
    layer, kwargs = call.operation, call.kwargs
    if keras_private.call_takes_training(layer):
        kwargs = {**kwargs, "training": False}
    args, kwargs = keras.tree.map_structure(_fresh, (call.args, kwargs))
    inputs = _tensors((args, kwargs))
    values, found = {id(tensor): tensor for tensor in inputs}, []
    try:
        with (
            keras.StatelessScope(),
            keras_private.without_new_nodes(layer),
            keras_private.symbols_for_values(),
        ):
            results = keras.tree.flatten(layer.call(*args, **kwargs))
            made = [x for x in results if isinstance(x, keras.KerasTensor) and id(x) not in values]
            if made:
                network = keras.Function(inputs, made)
                found, values = _followed(network, inputs, call.images, whole)
    except Exception as error:  # of any kind, since `call` is the user's
        return _with_outputs(replace(call, problem=_first_sentence(error)))
    return replace(call, inside=tuple(found), outputs=[values.get(id(x), x) for x in results])


def _recurrent(call: Call, whole: Whole) -> tuple[Call, ...]:
    """Follows the step of a recurrent layer, which runs for each element of a sequence."""
    layer, (batch, steps, *rest) = call.operation, call.input_shape
    states = keras.tree.map_structure(
        lambda state: keras.KerasTensor(tuple(state.shape)), list(layer.get_initial_state(batch))
    )
    element = keras.KerasTensor((batch, *rest))
    step = _call(layer.cell, (element, states), {}, call.images, whole)
    return (replace(step, times=steps),)


def _time_distributed(call: Call, whole: Whole) -> tuple[Call, ...]:
    """Follows the layer that runs for each element of a sequence."""
    batch, steps, *rest = call.input_shape
    element = keras.KerasTensor((batch, *rest))
    step = _call(call.operation.layer, (element,), {}, call.images, whole)
    return (replace(step, times=steps),)


# Layers whose `call` is a loop of the backend, which records no operations.
LOOPS: dict[type, Callable[[Call, Whole], tuple[Call, ...]]] = {
    keras.layers.TimeDistributed: _time_distributed,
    keras.layers.RNN: _recurrent,
}


def _tensors(values: Any) -> list[keras.KerasTensor]:
    return [x for x in keras.tree.flatten(values) if isinstance(x, keras.KerasTensor)]


def _tensor(shape: Sequence[int | None], like: keras.KerasTensor) -> keras.KerasTensor:
    return keras.KerasTensor(shape, dtype=like.dtype)


def _fresh(value: Any) -> Any:
    """Gives a tensor of the same shape that no operation has made; other values unchanged."""
    return _tensor(value.shape, value) if isinstance(value, keras.KerasTensor) else value


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
