"""The places where a network can be cut so that one feature map is all that the rest needs."""

import functools
from dataclasses import dataclass, field

import keras

from keras_dynnets.core import cost, graph
from keras_dynnets.core.symbolic import Call
from keras_dynnets.families.cnsn.cut_names import nearest_first, places_of
from keras_dynnets.families.cnsn.preprocessing import Preprocessing
from keras_dynnets.families.cnsn.step_down_conv import StepDownConv2D


@dataclass(frozen=True)
class CutPoint:
    """A place where a network can be detached.

    Attributes:
        name: name of the layer whose result the sub-model starts from.
        shape: shape of that result, (height, width, channels).
        macs: MACs of the sub-model for one image, its step-down convolution and what it reads
            included; None where the cost of a layer is not known.
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


def cut_points(model: keras.Model, preprocessing: str | None = None) -> list[CutPoint]:
    """Lists the legal cuts of a network, in running order, with the MACs that each leaves.

    A cut is legal where every way from the image to the logits leads through one feature map,
    and where something is left out that costs MACs.

    Args:
        model: keras.Model, functional or `Sequential`, from images (batch, height, width,
            channels) of a fixed size to one output.
        preprocessing: name of what the step-down convolutions would read, as for `CNSN`.

    Returns:
        A list of `CutPoint`.

    Raises:
        ValueError: the model is of another kind, or prepares its images in several ways and
            `preprocessing` names none of them.

    Example:
        >>> for point in cnsn.cut_points(zoo.load("resnet18_cifar", weights=None)):
        ...     print(point.name, point.shape, point.macs)

    Reference: Fuengfusin and Tamukoh, JRNAL 8(1), 2021, doi 10.2991/jrnal.k.210521.012, section
    2.2. The rule for legal cuts is not in the paper.
    """
    return Cuts(model, preprocessing, task="cut_points").points


class Cuts:
    """The legal cuts of a network.

    Args:
        model: a functional or `Sequential` Keras model from images of a fixed size to one output.
        preprocessing: name of the last layer or operation before the step-down convolutions; None
            for all that stands before the first layer with weights that is no norm.
        task: what was called, for error messages.

    Attributes:
        network: the functional model.
        graph: its `CallGraph`.
        nodes: its calls in running order, without those of the inputs.
        preprocessing: its calls before the first layers with weights, a `Preprocessing`.
    """

    def __init__(
        self, model: keras.Model, preprocessing: str | None = None, task: str = "detachable"
    ):
        self.graph = graph.image_call_graph(model, task)
        self.network, self.nodes = self.graph.network, self.graph.nodes
        for node in self.nodes:
            if getattr(node.operation, "data_format", None) == "channels_first":
                raise ValueError(
                    f"{task} takes networks with channels last, and layer {node.operation.name!r} "
                    f"of {self.network.name} has channels first: build it with "
                    'data_format="channels_last"'
                )
        self.preprocessing = Preprocessing(self.graph, preprocessing)
        self.read_name = preprocessing
        self.needed_besides = self.graph.needed_besides()

    @functools.cached_property
    def images(self) -> keras.KerasTensor:
        """The tensor that a step-down convolution reads: the images behind the preprocessing."""
        return self.preprocessing.find(self.read_name)

    @functools.cached_property
    def points(self) -> list[CutPoint]:
        """The legal cuts in running order."""
        return self._points()

    def tail(self, point: CutPoint) -> list:
        """Gives the calls behind a cut."""
        return self.nodes[point.position + 1 :]

    def body(self) -> list:
        """Gives the calls behind the preprocessing."""
        return [node for node in self.nodes if node not in self.preprocessing.nodes]

    def find(self, cut: str) -> CutPoint:
        """Finds the legal cut behind a layer or behind a block.

        Args:
            cut: name of a layer, or of a block, which is cut behind the last of its layers (see
                `cut_names.places_of`).

        Raises:
            ValueError: there is no such layer, or the cut is not legal; the message names the
                nearest legal cuts.
        """
        places = places_of(cut, [node.operation for node in self.nodes])
        if not places:
            raise ValueError(
                f"{self.network.name} has no layer {cut!r}, nor a block of that name; legal cuts "
                f"are {nearest_first(cut, [point.name for point in self.points])}"
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
            f"{self.network.name} cannot be cut behind {self.nodes[place].operation.name!r}: "
            f"{reason}; {self._nearest(place)}"
        )

    def _nearest(self, place: int) -> str:
        """Names the legal cuts next to the call at `place`."""
        before = [p.name for p in self.points if p.position < place][-1:]
        after = [p.name for p in self.points if p.position > place][:1]
        return f"the nearest legal cuts are {', '.join(map(repr, before + after)) or 'none'}"

    def _points(self) -> list[CutPoint]:
        macs = [_macs(call) for call in cost.own_calls(self.network)]
        names = [node.operation.name for node in self.nodes]
        image, before = self.images.shape[1:], self.preprocessing.nodes
        read = self.preprocessing.needed_for(self.images)
        spent: list[int | None] = []  # what a cut leaves out
        points = []
        for i, node in enumerate(self.nodes):
            spent += [] if node in before else [macs[i]]
            left = macs[i + 1 :]
            free = all(n == 0 for n in spent)  # only preprocessing would be left out
            if free or not left or names.count(names[i]) > 1 or not self._separates(i):
                continue
            left += [macs[self.nodes.index(node)] for node in read]
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
