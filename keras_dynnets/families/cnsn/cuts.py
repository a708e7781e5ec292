"""Where a network can be cut so that what follows needs one feature map and nothing else."""

from dataclasses import dataclass, field

import keras

from keras_dynnets.core import cost, graph
from keras_dynnets.families.cnsn.step_down_conv import StepDownConv2D

PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class CutPoint:
    """A place where a network can be detached.

    Attributes:
        name: of the layer whose result the tail starts from.
        shape: of that result, (height, width, channels).
        macs: MACs an image of the sub-model, its step-down convolution included; None where
            the cost of a layer is not known.
        kernel_size, strides: of the step-down convolution.
        position: of the layer's call among those of the network, in running order.
        tensor: the result itself.
    """

    name: str
    shape: tuple
    macs: int | None
    kernel_size: tuple
    strides: tuple
    position: int = field(repr=False)
    tensor: keras.KerasTensor = field(repr=False, compare=False)


def cut_points(model):
    """The legal cuts of a network, in running order, with the MACs that each leaves.

    A cut is legal where every way from the image to the logits leads through one feature map of
    rank 4, and where something that costs is left out.

    Args:
        model: a functional or `Sequential` Keras model from images of a fixed size, channels last, to one output.

    Returns:
        A list of `CutPoint`.

    Raises:
        ValueError: another kind of model.
    """
    return Cuts(model).points


class Cuts:
    """The legal cuts of a network.

    Args:
        model: a functional or `Sequential` Keras model from images of a fixed size to one output.

    Attributes:
        network: the functional model.
        graph: its calls.
        nodes: its calls in running order, without those of the inputs.
        images: the tensor that a step-down convolution reads: the input, or the result of the
            layers of preprocessing (`Rescaling`, `Normalization`) at the start.
        points: the legal cuts in running order.
    """

    def __init__(self, model):
        self.graph = graph.image_call_graph(model, "a network to detach")
        self.network, self.nodes = self.graph.network, self.graph.nodes
        self.images = self._preprocessed()
        self.needed_besides = self.graph.needed_besides()
        self.points = self._points()

    def tail(self, point):
        """The calls behind a cut."""
        return self.nodes[point.position + 1 :]

    def find(self, cut):
        """The legal cut behind the layer called `cut`, or behind the last one whose name starts with `cut` and "_".

        Raises:
            ValueError: there is no such layer, or the cut is not legal; the message names the nearest legal cuts.
        """
        names = [node.operation.name for node in self.nodes]
        places = [i for i, name in enumerate(names) if name == cut]
        places = places or [i for i, name in enumerate(names) if name.startswith(f"{cut}_")][-1:]
        if not places:
            raise ValueError(
                f"{self.network.name} has no layer {cut!r}, nor a block of that name; {self._nearest(None)}"
            )
        for point in self.points:
            if point.position == places[-1]:
                return point
        place = places[-1]
        if len(places) > 1:
            reason = "it is called more than once"
        elif self.needed_besides[place]:
            reason = (
                f"what follows needs more than its result: {', '.join(self.needed_besides[place])}"
            )
        else:
            reason = "its result is no feature map of known size, or nothing would be left out"
        raise ValueError(
            f"{self.network.name} cannot be cut behind {names[place]!r}: {reason}; {self._nearest(place)}"
        )

    def _nearest(self, place):
        if place is None:
            return f"legal cuts are {', '.join(repr(p.name) for p in self.points) or 'none'}"
        before = [p.name for p in self.points if p.position < place][-1:]
        after = [p.name for p in self.points if p.position > place][:1]
        return f"the nearest legal cuts are {', '.join(map(repr, before + after)) or 'none'}"

    def _preprocessed(self):
        tensor = self.network.inputs[0]
        readers = self.graph.readers(tensor)
        while len(readers) == 1 and isinstance(readers[0].operation, PREPROCESSING):
            tensor = readers[0].outputs[0]
            readers = self.graph.readers(tensor)
        return tensor

    def _points(self):
        macs = [_macs(node) for node in self.nodes]
        names = [node.operation.name for node in self.nodes]
        points = []
        for i, node in enumerate(self.nodes):
            spent, left = macs[: i + 1], macs[i + 1 :]
            shape = node.outputs[0].shape[1:]
            image = self.images.shape[1:]
            fits = (
                len(shape) == 3
                and None not in shape
                and all(n <= m for n, m in zip(shape[:2], image, strict=False))
            )
            if (
                self.needed_besides[i]
                or len(node.outputs) != 1
                or not fits
                or names.count(names[i]) > 1
                or not left
            ):
                continue
            if not any(n is None or n for n in spent):
                continue  # nothing but preprocessing before it
            step_down = StepDownConv2D.between(image, shape)
            own = cost.conv_macs(shape, step_down.kernel_size, image[-1])
            total = None if None in left else own + sum(left)
            points.append(
                CutPoint(
                    names[i],
                    shape,
                    total,
                    step_down.kernel_size,
                    step_down.strides,
                    i,
                    node.outputs[0],
                )
            )
        return points


def _macs(node):
    """MACs of a call; None where they are not known."""
    layer = node.operation
    if not isinstance(layer, keras.Layer):
        return 0
    inner = graph.inference(layer)
    try:
        if isinstance(inner, keras.Function):
            return sum(cost.layer_macs(*call) for call in graph.calls(inner))
        return cost.layer_macs(layer, node.arguments.keras_tensors[0].shape)
    except ValueError:
        return None
