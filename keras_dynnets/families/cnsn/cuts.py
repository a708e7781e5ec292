"""The places where a network can be cut so that one feature map is all that the rest needs."""

from dataclasses import dataclass, field

import keras

from keras_dynnets.core import cost, graph
from keras_dynnets.core.symbolic import Call
from keras_dynnets.families.cnsn.step_down_conv import StepDownConv2D

PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class CutPoint:
    """A place where a network can be detached.

    Attributes:
        name: name of the layer whose result the sub-model starts from.
        shape: shape of that result, (height, width, channels).
        macs: MACs of the sub-model for one image, its step-down convolution included; None where
            the cost of a layer is not known.
        kernel_size: (height, width) of the kernel of the step-down convolution.
        strides: (height, width) of its stride.
        position: index of the layer's call among the calls of the network, in running order.
        tensor: the symbolic result.
    """

    name: str
    shape: tuple[int, int, int]
    macs: int | None
    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    position: int = field(repr=False)
    tensor: keras.KerasTensor = field(repr=False, compare=False)


def cut_points(model: keras.Model) -> list[CutPoint]:
    """Lists the legal cuts of a network, in running order, with the MACs that each leaves.

    A cut is legal where every way from the image to the logits leads through one feature map,
    and where something is left out that costs MACs.

    Args:
        model: keras.Model, functional or `Sequential`, from images (batch, height, width,
            channels) of a fixed size to one output.

    Returns:
        A list of `CutPoint`.

    Raises:
        ValueError: the model is of another kind.

    Example:
        >>> for point in cnsn.cut_points(zoo.load("resnet18_cifar", weights=None)):
        ...     print(point.name, point.shape, point.macs)

    Reference: Fuengfusin and Tamukoh, JRNAL 8(1), 2021, doi 10.2991/jrnal.k.210521.012, section
    2.2. The rule for legal cuts is not in the paper.
    """
    return Cuts(model).points


class Cuts:
    """The legal cuts of a network.

    Args:
        model: a functional or `Sequential` Keras model from images of a fixed size to one output.

    Attributes:
        network: the functional model.
        graph: its `CallGraph`.
        nodes: its calls in running order, without those of the inputs.
        images: the tensor that a step-down convolution reads: the input, or the result of the
            preprocessing layers (`Rescaling`, `Normalization`) at the start.
        points: the legal cuts in running order.
    """

    def __init__(self, model: keras.Model):
        self.graph = graph.image_call_graph(model, "a network to detach")
        self.network, self.nodes = self.graph.network, self.graph.nodes
        self.images = self._preprocessed()
        self.needed_besides = self.graph.needed_besides()
        self.points = self._points()

    def tail(self, point: CutPoint) -> list:
        """Gives the calls behind a cut."""
        return self.nodes[point.position + 1 :]

    def body(self) -> list:
        """Gives the calls behind the preprocessing."""
        first = next(
            i for i, node in enumerate(self.nodes) if self.images in node.arguments.keras_tensors
        )
        return self.nodes[first:]

    def find(self, cut: str) -> CutPoint:
        """Finds the legal cut behind a layer or behind a block.

        Args:
            cut: name of a layer, or of a block, which is cut behind the last of its layers: those
                whose names start with `cut` and an underscore.

        Raises:
            ValueError: there is no such layer, or the cut is not legal; the message names the
                nearest legal cuts.
        """
        names = [node.operation.name for node in self.nodes]
        places = [i for i, name in enumerate(names) if name == cut]
        places = places or [i for i, name in enumerate(names) if name.startswith(f"{cut}_")][-1:]
        if not places:
            raise ValueError(
                f"{self.network.name} has no layer {cut!r}, nor a block of that name; "
                f"{self._nearest(None)}"
            )
        place = places[-1]
        for point in self.points:
            if point.position == place:
                return point
        if len(places) > 1:
            reason = "it is called more than once"
        elif needed := self.needed_besides[place]:
            reason = f"what follows needs more than its result: {', '.join(needed)}"
        else:
            reason = "its result is no feature map of known size, or nothing would be left out"
        raise ValueError(
            f"{self.network.name} cannot be cut behind {names[place]!r}: {reason}; "
            f"{self._nearest(place)}"
        )

    def _nearest(self, place: int | None) -> str:
        """Names the legal cuts next to the call at `place`, or all of them."""
        if place is None:
            return f"legal cuts are {', '.join(repr(p.name) for p in self.points) or 'none'}"
        before = [p.name for p in self.points if p.position < place][-1:]
        after = [p.name for p in self.points if p.position > place][:1]
        return f"the nearest legal cuts are {', '.join(map(repr, before + after)) or 'none'}"

    def _preprocessed(self) -> keras.KerasTensor:
        """Gives the images behind the preprocessing layers at the start of the network."""
        tensor = self.network.inputs[0]
        readers = self.graph.readers(tensor)
        while len(readers) == 1 and isinstance(readers[0].operation, PREPROCESSING):
            tensor = readers[0].outputs[0]
            readers = self.graph.readers(tensor)
        return tensor

    def _points(self) -> list[CutPoint]:
        macs = [_macs(call) for call in cost.own_calls(self.network)]
        names = [node.operation.name for node in self.nodes]
        image = self.images.shape[1:]
        points = []
        for i, node in enumerate(self.nodes):
            spent, left = macs[: i + 1], macs[i + 1 :]
            free = all(n == 0 for n in spent)  # only preprocessing would be left out
            if free or not left or names.count(names[i]) > 1 or not self._separates(i):
                continue
            shape = node.outputs[0].shape[1:]
            step_down = StepDownConv2D.between(image, shape)
            kernel_size, strides = step_down.kernel_size, step_down.strides
            known = [n for n in left if n is not None]
            total = cost.conv_macs(shape, kernel_size, image[-1]) + sum(known)
            total = total if len(known) == len(left) else None
            points.append(
                CutPoint(names[i], shape, total, kernel_size, strides, i, node.outputs[0])
            )
        return points

    def _separates(self, place: int) -> bool:
        """Says whether the result of a call is a feature map, and all that later calls need."""
        outputs = self.nodes[place].outputs
        if self.needed_besides[place] or len(outputs) != 1:
            return False
        shape, image = outputs[0].shape[1:], self.images.shape[1:]
        if len(shape) != 3 or None in shape:
            return False
        return shape[0] <= image[0] and shape[1] <= image[1]


def _macs(call: Call) -> int | None:
    """Counts the MACs of a call for one image; None where they are not known."""
    try:
        return cost.call_macs(call)
    except ValueError:
        return None
