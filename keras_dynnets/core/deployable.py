"""Layers that become other layers when their network is deployed."""

import math
from typing import Any, Protocol

import keras

from keras_dynnets.core.copying import rebuilt
from keras_dynnets.core.cost import Costed


class Deployer(Protocol):
    """What a layer may ask of the deployment that it becomes part of.

    Attributes:
        execution: how layers with gated branches run (see `conditional.GatedBranches`).
    """

    execution: str

    def chain(self, layers: keras.Sequential) -> keras.Sequential:
        """Gives a copy of layers in a row with their batch norms folded."""
        ...

    def network(self, network: keras.Model) -> keras.Model:
        """Gives a deployed copy of a network that the layer holds."""
        ...

    def holding(self, layer: keras.Layer, weights: list[Any]) -> Any:
        """Gives back a new layer, which gets these weights when it is built, rounded as all are."""
        ...

    def runs_always(self, macs: int) -> bool:
        """Says whether a branch of so many MACs is faster without a condition before it."""
        ...


class Deployable:
    """A layer with other layers or networks inside that becomes another layer when deployed."""

    def deployed(self, deployer: Deployer) -> keras.Layer:
        """Gives the layer that does the same in inference, with its inner parts deployed."""
        raise NotImplementedError(f"{type(self).__name__} must define deployed(deployer)")


class SharesWeights(Costed):
    """A layer that computes with a part of another layer's weights, as a plain layer would.

    Subclasses define `stand_in()`, the plain layer, and `values()`, the weights to give it.
    """

    def stand_in(self) -> keras.Layer:
        """Gives the plain layer, without weights."""
        raise NotImplementedError(f"{type(self).__name__} must define stand_in()")

    def values(self) -> list[Any]:
        """Gives the weights of the plain layer, as tensors."""
        raise NotImplementedError(f"{type(self).__name__} must define values()")

    def decided_by(self) -> keras.Layer | None:
        """Gives the layer of the same model that says whether these weights are trained.

        None where this layer says so itself, by its own `trainable`.
        """
        return None

    def used_params(self) -> int:
        return sum(math.prod(v.shape) for v in self.values())


def with_own_weights(model: keras.Model) -> keras.Model:
    """Gives a model whose layers all have weights of their own; the model itself if they do."""
    shared: dict[Any, keras.Layer] = {
        layer: layer.stand_in() for layer in model.layers if isinstance(layer, SharesWeights)
    }
    if not shared:
        return model
    for layer, plain in shared.items():
        plain.name = layer.name
    model = rebuilt(model, lambda layer: shared.get(layer, layer))
    for layer, plain in shared.items():
        plain.set_weights([keras.ops.convert_to_numpy(v) for v in layer.values()])
    return model
