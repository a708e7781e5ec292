"""Parameters and multiply-accumulates (MACs) of a whole network, from its layers and from TensorFlow's graph."""

import contextlib
import io
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import keras

from keras_dynnets import cost, graph
from keras_dynnets.layers import MultiPath
from keras_dynnets.models import PuppetCNN

# What a MAC is in `cost`: the other operations that TensorFlow gives FLOPs to (additions, means) have none.
COUNTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class LayerCost(NamedTuple):
    """One row of `Count.layers`: parameters and MACs (an image, all paths on) of a layer."""

    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class Count:
    """What a network costs.

    Attributes:
        params: values that training learns, frozen layers included; the category heads of
            a DMNN, which inference does without, are not.
        macs: MACs an image at most, all paths on.
        fixed_macs: MACs that every image takes, whatever its gates.
        path_macs: MACs of every gated path, a tuple of blocks of tuples of sub-blocks;
            empty where nothing is gated. `macs = fixed_macs +` all of them.
        flops: FLOPs of all layers in the convention of TissueNet's tables (see `cost.layer_flops`).
        layers: the layers that have parameters or MACs, in running order.
        level_macs: MACs of each level of a `PuppetCNN`, without those of its kernels' generation, which an image does not take.
    """

    params: int
    macs: int
    fixed_macs: int
    path_macs: tuple
    flops: int
    layers: tuple = field(repr=False)
    level_macs: tuple = ()

    def efficiency(self, accuracy, baseline, baseline_accuracy):
        """What accuracy an operation and a parameter buy, against a baseline: TissueNet's CE and SE.

        Args:
            accuracy, baseline_accuracy: of this network and of the baseline, in one unit.
            baseline: the baseline's `Count`.

        Returns:
            `(A / A_base) (F_base / F)` and `(A / A_base) (P_base / P)`, with F the FLOPs and P the parameters.
        """
        kept = accuracy / baseline_accuracy
        return kept * baseline.flops / self.flops, kept * baseline.params / self.params


def count(model):
    """Counts the parameters and MACs of a network by its layers.

    The convention of MACs is that of `keras_dynnets.cost`: for one image, in convolutions
    and dense layers only. A layer that the network calls twice costs its MACs twice and
    its parameters once.

    Args:
        model: a functional Keras model, a built `Sequential` or a model of the zoo. It
            may hold other such models as layers.

    Returns:
        A `Count`.

    Raises:
        ValueError: a model whose layers cannot be followed (subclassed, not built), or
            whose cost depends on an input size that it leaves open.

    Example:
        >>> profile.count(zoo.load("resnet50", weights=None)).macs
        4089184256
    """
    rows, path_macs, seen, flops = {}, [], set(), 0
    puppet = model.plan if isinstance(model, PuppetCNN) else None
    generated = {*puppet.convolutions, *puppet.norms} if puppet else ()
    for layer, input_shape in graph.calls(puppet.network if puppet else inference_network(model)):
        params, macs = rows.get(layer, (0, 0))
        if layer in generated:
            pass  # what the puppeteer makes is not stored
        elif hasattr(layer, "params"):  # it uses a part of another layer's weights
            params = layer.params
        else:
            new = [v for v in _learned(layer) if id(v) not in seen]
            seen.update(map(id, new))
            params += sum(math.prod(v.shape) for v in new)
        rows[layer] = params, macs + cost.layer_macs(layer, input_shape)
        flops += cost.layer_flops(layer, input_shape)
        if isinstance(layer, MultiPath):
            path_macs.append(tuple(layer.path_macs(input_shape)))
    if puppet:
        rows[model.puppet.ode] = model.puppet.ode.count_params(), 0
    layers = tuple(LayerCost(layer.name, *row) for layer, row in rows.items() if any(row))
    macs = sum(row.macs for row in layers)
    gated = sum(map(sum, path_macs))
    levels = tuple(model.level_macs) if puppet else ()
    return Count(sum(row.params for row in layers), macs, macs - gated, tuple(path_macs), flops, layers, levels)


def graph_macs(model):
    """MACs of a network by TensorFlow's own graph profiler: a check on `count` that shares no code with it.

    The profiler's FLOPs of convolutions and matrix products on a batch of one image,
    halved. Gated paths are in the graph without a condition (the masked form), so that
    all of them count; what a model itself puts inside branches or loops does not.

    Args:
        model: as for `count`.

    Returns:
        MACs an image with all paths on, an integer.

    Raises:
        ValueError: as `count` does.
        RuntimeError: Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"graph_macs reads a TensorFlow graph and Keras runs on {keras.backend.backend()}: "
            "use count, or start Python with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    network = inference_network(model)
    spec = keras.tree.map_structure(lambda x: tf.TensorSpec((1, *_known(x, network)), x.dtype), network.input)
    with _all_paths_on(network):
        traced = tf.function(lambda images: network(images, training=False)).get_concrete_function(spec)
    return _graph_flops(traced.graph) // 2


def inference_network(model):
    """The functional model that inference runs: `model` without what only its training needs.

    Raises:
        ValueError: `model` is no functional model and none is inside.
    """
    network = graph.inference(model)
    if isinstance(network, keras.Model) and isinstance(network, keras.Function):
        return network
    raise ValueError(
        f"{getattr(model, 'name', model)!r} is a {type(model).__name__} whose layers cannot be followed; give a model of "
        "the zoo, a functional one, keras.Model(inputs, outputs), or a Sequential after build(input_shape)"
    )


def _learned(layer):
    # The public `trainable_weights` leaves out what is frozen, and freezing makes nothing cheaper.
    return [v for inner in layer._flatten_layers() for v in inner._trainable_variables]


def _known(tensor, network):
    if None in tensor.shape[1:]:
        raise ValueError(
            f"the cost of {network.name!r} depends on its input size, and that is {tensor.shape[1:]}: "
            "give the model a fixed input_shape"
        )
    return tensor.shape[1:]


@contextlib.contextmanager
def _all_paths_on(network):
    # Layer by layer: `DMNN.execution` would throw away the traces of a `fit` that may be under way.
    paths = [layer for layer in network._flatten_layers() if isinstance(layer, MultiPath)]
    before = [layer.execution for layer in paths]
    try:
        for layer in paths:
            layer.execution = "masked"
        yield
    finally:
        for layer, execution in zip(paths, before, strict=True):
            layer.execution = execution


def _graph_flops(traced):
    from tensorflow.compat.v1 import profiler

    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    with contextlib.redirect_stderr(io.StringIO()):
        node = profiler.profile(traced, cmd="op", options=options.with_empty_output().build())
    flops = 0
    while node.children:  # a chain of operation types, each the only child of the one before
        node = node.children[0]
        flops += node.float_ops if node.name in COUNTED else 0
    # Keras puts a grouped convolution into a function of its own, which the profiler does not enter.
    called = [op.get_attr("f").name for op in traced.get_operations() if op.type in CALLS]
    return flops + sum(_graph_flops(traced._get_function(name).graph) for name in called)
