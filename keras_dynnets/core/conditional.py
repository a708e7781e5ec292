"""Layers that run a part of their work only for the images that need it.

Exporters, counters and benchmarks know these two kinds of layers, and none that belongs to one
family of networks.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core import keras_private
from keras_dynnets.core.cost import Costed
from keras_dynnets.core.deployable import Deployable, Deployer

EXECUTIONS = ("auto", "masked", "sparse", "conditional", "all")


class GatedBranches(Costed):
    """A layer that adds to a shortcut those of its branches whose gates are open.

    A layer of this kind is called as `layer(inputs, gates, shortcut)` with gates
    (batch, branches) of 0 and 1, and `optional_macs` gives the MACs of its branches. With the
    execution "all" it ignores the gates, runs every branch and puts the addition of branch n into
    the name scope `branch_scope(n)`, by which exporters find the branches in a graph. With
    "conditional" and "sparse" the branches in `always` run on every image all the same, and are
    multiplied by their gates.

    Attributes:
        always: indices of the branches that run for every image, because a condition before them
            would take more time than it saves. A deployment sets it by `cheap_branches`.
        inputs_shape: shape of `inputs` with the batch first. Subclasses set it in `build`.
    """

    name: str
    always: tuple[int, ...] = ()
    inputs_shape: tuple[int | None, ...] | None = None

    @property
    def execution(self) -> str:
        """How the branches run.

        "masked" runs every branch on every image and multiplies the results by the gates.
        "sparse" runs a branch on the images whose gate is open. "conditional" does so by a
        condition, for a batch of one image. "all" runs every branch and ignores the gates. "auto"
        chooses one of them for training and one for inference.

        Raises:
            ValueError: it is set to a value that is not in this list.
        """
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in EXECUTIONS:
            raise ValueError(
                f"execution {value!r} is unknown; it is one of {', '.join(EXECUTIONS)}"
            )
        self._execution = value

    def branch_scope(self, branch: int) -> str:
        """Names the scope that the addition of a branch has in a graph.

        Args:
            branch: index of the branch.
        """
        return f"gated_{self.name}_{branch}"

    def cheap_branches(self, runs_always: Callable[[int], bool]) -> tuple[int, ...]:
        """Finds the branches for which a condition costs more time than it saves.

        Args:
            runs_always: says whether a branch of so many MACs is faster without a condition.

        Returns:
            The indices of these branches; none where the size of the input is not known.
        """
        if self.inputs_shape is None or None in self.inputs_shape[1:]:
            return ()
        macs = self.optional_macs(self.inputs_shape)
        return tuple(n for n, branch_macs in enumerate(macs) if runs_always(branch_macs))


class DecidesGates:
    """A layer that opens a gate where a score is above 0.

    Subclasses define `scores`. Where a score is near 0, the rounding of a file decides.
    """

    def scores(self, *args: Any, **kwargs: Any) -> Any:
        """Gives the scores of inference, (batch, gates).

        Args:
            *args: what the layer is called with.
            **kwargs: the same.
        """
        raise NotImplementedError(f"{type(self).__name__} must define scores(...)")


class NetworkSwitch(Deployable, keras.layers.Layer):
    """A layer that runs one of several networks, chosen for each image.

    It stands in networks that are deployed and is never saved. Subclasses define `place(images)`,
    the index of the network that each image is for, (batch,) int32, and
    `with_networks(networks, conditional)`, a copy that chooses among other networks.

    Args:
        networks: functional models of the same input and output shapes.
        conditional: whether the layer gets one image a call and chooses by nested conditions;
            otherwise the images of a batch are grouped by network.
    """

    def __init__(self, networks: Sequence[keras.Model], conditional: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.networks = list(networks)
        self.conditional = conditional

    def place(self, images: Any) -> Any:
        """Chooses a network for each image.

        Args:
            images: (batch, height, width, channels) in [0, 255].

        Returns:
            The index of a network for each image, (batch,) int32.
        """
        raise NotImplementedError(f"{type(self).__name__} must define place(images)")

    def with_networks(self, networks: Sequence[keras.Model], conditional: bool) -> "NetworkSwitch":
        """Gives a copy that chooses among other networks in the same way.

        Args:
            networks: functional models in the order of `self.networks`.
            conditional: see the class.
        """
        raise NotImplementedError(f"{type(self).__name__} must define with_networks(...)")

    def deployed(self, deployer: Deployer) -> "NetworkSwitch":
        networks = [deployer.network(network) for network in self.networks]
        return self.with_networks(networks, deployer.execution == "conditional")

    def verification_images(
        self, images: np.ndarray | None, made_up: np.ndarray, count: int
    ) -> tuple[np.ndarray, int]:
        """Picks images to compare a file with Keras on, for as many networks as possible.

        Args:
            images: the user's images, (n, height, width, channels) in [0, 255], or None.
            made_up: images to take where the user gives none.
            count: how many to pick.

        Returns:
            The images, and the number of different networks that they are for.
        """
        images = made_up if images is None else images
        places = ops.convert_to_numpy(self.place(ops.convert_to_tensor(images)))
        _, first = np.unique(places, return_index=True)
        rest = np.setdiff1d(np.arange(len(images)), first)
        chosen = [*first, *rest][: max(count, len(first))]
        return images[chosen], len(first)

    def call(self, images: Any) -> Any:
        places = self.place(images)
        if self.conditional:
            # Of the places of several images this makes an error, in an exported file too, where
            # a batch can be resized. `places[0]` would let the first image decide for all.
            return self._nested(images, ops.reshape(places, ()), 0, len(self.networks))
        outputs = ops.zeros((ops.shape(images)[0], *self.networks[0].output_shape[1:]))
        for i, network in enumerate(self.networks):
            outputs = ops.cond(
                ops.any(places == i),
                lambda i=i, network=network, before=outputs: self._updated(
                    i, network, places, images, before
                ),
                lambda before=outputs: before,
            )
        return outputs

    def _updated(self, i: int, network: keras.Model, places: Any, images: Any, outputs: Any) -> Any:
        """Puts the results of network `i` into the rows of the images that are for it."""
        import tensorflow as tf

        # int32, as in the gradient of the branch that is not taken: TensorFlow wants both alike.
        rows = tf.cast(tf.where(places == i), tf.int32)
        found = network(tf.gather_nd(images, rows), training=False)
        return tf.tensor_scatter_nd_update(outputs, rows, found)

    def _nested(self, images: Any, place: Any, start: int, end: int) -> Any:
        if end - start == 1:
            return self.networks[start](images, training=False)
        middle = (start + end) // 2
        return ops.cond(
            place < middle,
            lambda: self._nested(images, place, start, middle),
            lambda: self._nested(images, place, middle, end),
        )

    def compute_output_spec(self, images: Any) -> keras.KerasTensor:
        shape = (images.shape[0], *self.networks[0].output_shape[1:])
        return keras.KerasTensor(shape, dtype="float32")


def gated_layers(model: keras.Layer) -> list[GatedBranches]:
    """Lists the layers with gated branches in a model, at any depth."""
    return [x for x in keras_private.flattened_layers(model) if isinstance(x, GatedBranches)]


def switch_of(network: keras.Model) -> NetworkSwitch | None:
    """Gives the layer of a network that chooses among networks; None if there is none."""
    return next((layer for layer in network.layers if isinstance(layer, NetworkSwitch)), None)


@contextlib.contextmanager
def running_as(model: keras.Layer, execution: str) -> Iterator[None]:
    """Sets the execution of all gated layers of a model inside a `with` block.

    The layers are set one by one, because setting the model's own property would throw away the
    traced functions of a `fit` that may be running.

    Args:
        model: a model or layer that holds gated layers.
        execution: see `GatedBranches.execution`.
    """
    layers = gated_layers(model)
    before = [layer.execution for layer in layers]
    try:
        for layer in layers:
            layer.execution = execution
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.execution = value
