"""Parameters and multiply-accumulates (MACs) of a network, from its layers and from a graph."""

import contextlib
import io
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras

from keras_dynnets.core import cost, graph, keras_private
from keras_dynnets.core.conditional import running_as
from keras_dynnets.core.cost import Costed
from keras_dynnets.core.dynamic import interface

# TensorFlow's profiler gives FLOPs to other operations too (additions, means), which have no MACs.
COUNTED = (
    "BatchMatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "Conv2D",
    "Conv2DBackpropInput",  # a transposed convolution
    "Conv3D",
    "DepthwiseConv2dNative",
    "MatMul",
)
# It gives none to these, which multiply, or run others that may.
UNCOUNTED = ("Conv3DBackpropInputV2", "Einsum", "XlaDot", "XlaConv", "While", "StatelessWhile")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class LayerCost(NamedTuple):
    """What a layer costs.

    Attributes:
        name: name of the layer.
        params: number of values that training learns.
        macs: MACs for one image with all optional parts on.
    """

    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class Count:
    """What a network costs.

    Attributes:
        params: values that training learns, frozen layers included; parts that only training
            has are left out.
        macs: MACs for one image with all optional parts on.
        fixed_macs: MACs that every image takes, whatever its gates.
        path_macs: MACs of every optional part, for each block a tuple with its parts; empty where
            nothing is optional. `macs` is `fixed_macs` plus all of them.
        flops: FLOPs of all layers in the convention of `cost.call_flops`.
        layers: a `LayerCost` for each layer or operation of `keras.ops` with parameters or MACs, in
            running order.
        level_macs: MACs of each network that an image can be sent to, where the model chooses
            among several.
    """

    params: int
    macs: int
    fixed_macs: int
    path_macs: tuple[tuple[int, ...], ...]
    flops: int
    layers: tuple[LayerCost, ...] = field(repr=False)
    level_macs: tuple[int, ...] = ()

    def efficiency(
        self, accuracy: float, baseline: "Count", baseline_accuracy: float
    ) -> tuple[float, float]:
        """Relates accuracy to operations and to parameters, compared with a baseline.

        Args:
            accuracy: accuracy of this network.
            baseline: count of the baseline.
            baseline_accuracy: accuracy of the baseline, in the same unit.

        Returns:
            `(A / A_base) (F_base / F)` and `(A / A_base) (P_base / P)`, with A the accuracies, F
            the FLOPs and P the parameters.

        Reference: computation efficiency CE and storage efficiency SE, arXiv 2205.01508, section
        4.1.
        """
        kept = accuracy / baseline_accuracy
        return kept * baseline.flops / self.flops, kept * baseline.params / self.params


def count(model: keras.Model) -> Count:
    """Counts the parameters and MACs of a network by its layers.

    MACs are those of one image, in convolutions and products of matrices (see `core.cost`),
    whether a layer of Keras, an operation of `keras.ops` or a layer of one's own computes them. A
    layer that the network calls twice costs its MACs twice and its parameters once.

    Args:
        model: keras.Model, functional, a built `Sequential` or a model of the zoo. It may hold
            other such models as layers.

    Returns:
        A `Count`.

    Raises:
        ValueError: the layers of the model cannot be followed (it is subclassed or not built),
            its cost depends on an input size that it leaves open, or the cost of a layer or of an
            operation is not known; the message names it.

    Example:
        >>> profile.count(zoo.load("resnet50", weights=None)).macs
        4089184256
    """
    plan = interface(model).cost_plan()
    _check_followed(plan.network, model)
    params_of, macs_of, path_macs, seen, flops = {}, {}, [], set(), 0
    for call in cost.calls(plan.network):
        layer = call.operation
        own = 0 if layer in plan.generated else _params(layer, seen)
        used = layer.used_params() if isinstance(layer, Costed) else None
        params_of[layer] = params_of.get(layer, 0) + own if used is None else used
        macs_of[layer] = macs_of.get(layer, 0) + cost.call_macs(call)
        flops += cost.call_flops(call)
        if isinstance(layer, Costed) and (optional := layer.optional_macs(call.input_shape)):
            path_macs.append(tuple(optional))
    for layer in plan.generators:
        params_of[layer], macs_of[layer] = layer.count_params(), 0
    rows = [LayerCost(layer.name, params_of[layer], macs_of[layer]) for layer in params_of]
    rows = tuple(row for row in rows if row.params or row.macs)
    macs = sum(row.macs for row in rows)
    return Count(
        sum(row.params for row in rows),
        macs,
        macs - sum(map(sum, path_macs)),
        tuple(path_macs),
        flops,
        rows,
        plan.level_macs,
    )


def _params(layer: Any, seen: set[int]) -> int:
    """Counts the learned values of a layer that are not in `seen`, and adds them to it."""
    if not isinstance(layer, keras.Layer):
        return 0  # an operation of keras.ops
    new = [v for v in keras_private.learned_variables(layer) if id(v) not in seen]
    seen.update(map(id, new))
    return sum(math.prod(v.shape) for v in new)


def graph_macs(model: keras.Model) -> int:
    """Counts MACs with TensorFlow's graph profiler, as a check on `count` that shares no code.

    The result is half of the profiler's FLOPs of convolutions and matrix products for a batch of
    one image. It counts the padding of dilated convolutions, which `count` does not. Gated branches
    are in the graph without a condition, so that all of them count; what a model puts inside
    conditions itself does not.

    Args:
        model: as for `count`.

    Returns:
        MACs for one image with all optional parts on.

    Raises:
        ValueError: the layers of the model cannot be followed, an input size is open, or the graph
            holds an operation that the profiler does not count, such as `Einsum` or a loop.
        RuntimeError: Keras runs on another backend than TensorFlow.

    Example:
        >>> profile.graph_macs(zoo.load("resnet20", weights=None))
        40813184
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"graph_macs reads a TensorFlow graph and Keras runs on {keras.backend.backend()}: "
            "use count, or start Python with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    network = inference_network(model)
    spec = keras.tree.map_structure(
        lambda x: tf.TensorSpec((1, *_known(x, network)), x.dtype), network.input
    )
    with running_as(network, "masked"):
        traced = tf.function(lambda images: network(images, training=False))
        return _graph_flops(traced.get_concrete_function(spec).graph) // 2


def inference_network(model: keras.Model) -> keras.Model:
    """Gives the functional model that inference runs, without what only training needs.

    Raises:
        ValueError: `model` is no functional model and holds none.
    """
    network = graph.inference(model)
    _check_followed(network, model)
    return network


def _check_followed(network: Any, model: Any) -> None:
    """Refuses a network whose layers cannot be followed; `model` is what the user gave."""
    if not keras_private.runs_its_graph(network):
        raise ValueError(
            f"{getattr(model, 'name', model)!r} is a {type(model).__name__} whose layers cannot be "
            "followed; give a model of the zoo, a functional one, keras.Model(inputs, outputs), or "
            "a Sequential after build(input_shape)"
        )


def _known(tensor: keras.KerasTensor, network: keras.Model) -> tuple:
    """Gives the shape of an input without the batch; refuses an open size."""
    if None in tensor.shape[1:]:
        raise ValueError(
            f"the cost of {network.name!r} depends on its input size, and that is "
            f"{tensor.shape[1:]}: give the model a fixed input_shape"
        )
    return tensor.shape[1:]


def _graph_flops(traced: Any) -> int:
    """Counts the FLOPs of convolutions and matrix products in a TensorFlow graph."""
    import tensorflow as tf

    if uncounted := sorted({op.type for op in traced.get_operations()} & set(UNCOUNTED)):
        raise ValueError(
            f"TensorFlow's profiler gives no FLOPs to {', '.join(uncounted)}, which this network "
            "runs; use count"
        )
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    with contextlib.redirect_stderr(io.StringIO()):
        node = profiler.profile(traced, cmd="op", options=options.with_empty_output().build())
    flops = 0
    while node.children:  # a chain of kinds of operations, each the only child of the one before
        node = node.children[0]
        flops += node.float_ops if node.name in COUNTED else 0
    # Keras puts a grouped convolution into a function, which the profiler does not enter.
    calls = [op.get_attr("f").name for op in traced.get_operations() if op.type in CALLS]
    return flops + sum(_graph_flops(keras_private.function_graph(traced, name)) for name in calls)
