"""Freezing layers: by name, and so that a saved model keeps it."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras

from keras_dynnets.core import keras_private
from keras_dynnets.core.deployable import SharesWeights
from keras_dynnets.core.dynamic import interface

HEAD = "head"  # stands for the layers that give the logits


def freeze(
    model: keras.Model,
    layers: str | Sequence[str] | None = None,
    *,
    all_but: str | Sequence[str] | None = None,
) -> int:
    """Freezes some layers of a model and makes all others trainable.

    What was frozen before does not matter: afterwards exactly the named layers are frozen or, with
    `all_but`, exactly those that are not named. Layers inside a named layer belong to it. Call
    `compile` afterwards, as after every change of `trainable`. A layer that uses the weights of
    another layer of the model is frozen with that one.

    Args:
        model: any Keras model, of the zoo or your own.
        layers: names of the layers to freeze, at any depth. `*` in a name stands for any letters,
            and "head" for the layers that give the logits.
        all_but: names of the layers to train, in the same form; all others are frozen.

    Returns:
        The number of weight tensors that train now.

    Raises:
        ValueError: not exactly one of `layers` and `all_but` is given, the model has no layer of a
            name, a name is that of a layer that uses the weights of another one, or what is to
            train has no weights. The model is then unchanged.

    Example:
        >>> model = zoo.load("resnet20", "cifar10", num_classes=3)
        >>> freeze(model, all_but="head")
        2
    """
    if (layers is None) == (all_but is None):
        raise ValueError(
            "give either the layers to freeze, freeze(model, 'stem*'), or those to train, "
            "freeze(model, all_but='head')"
        )
    every = list(keras_private.flattened_layers(model))
    if layers is not None:
        named = _named(model, every, layers)
        frozen = {id(inner) for layer in named for inner in keras_private.flattened_layers(layer)}
    else:
        named = _named(model, every, all_but or ())
        trained = {id(inner) for layer in named for inner in keras_private.flattened_layers(layer)}
        outer = _around(every, {id(layer) for layer in named}) - trained
        _check_trainable(model, every, named, outer)
        frozen = {id(layer) for layer in every} - trained - outer
    deciding = [_decided_by(layer) or layer for layer in every]
    _set_trainable(every, {i for i, layer in enumerate(deciding) if id(layer) in frozen})
    return len(model.trainable_weights)


def unfreeze(model: keras.Model) -> int:
    """Makes all layers of a model trainable, at any depth.

    `model.trainable = True` does so too, but does nothing where the model itself counts as
    trainable and only layers in it are frozen: TensorFlow leaves out an assignment that changes no
    value.

    Args:
        model: any Keras model.

    Returns:
        The number of weight tensors that train now.

    Example:
        >>> unfreeze(zoo.load("resnet20"))
        65
    """
    _set_trainable(list(keras_private.flattened_layers(model)), set())
    return len(model.trainable_weights)


def frozen_positions(layer: keras.Layer) -> list[int]:
    """Lists which layers are frozen, for the configuration of the layer or model around them.

    Args:
        layer: a layer or a model.

    Returns:
        The positions of the frozen layers among `layer` itself, 0, and all layers inside it,
        outermost first.
    """
    every = keras_private.flattened_layers(layer)
    return [i for i, inner in enumerate(every) if not inner.trainable]


def freeze_positions(layer: keras.Layer, positions: Collection[int]) -> None:
    """Freezes what `frozen_positions` of an equal layer or model has listed, and nothing else.

    Args:
        layer: a built layer or model.
        positions: what `frozen_positions` gave.
    """
    _set_trainable(list(keras_private.flattened_layers(layer)), set(positions))


class KeepsFrozen:
    """A layer whose configuration says which of the layers inside it are frozen.

    It is mixed into a `keras.layers.Layer`, whose `build` ends with `self.freeze_again()`.

    Args:
        *args: arguments of the layer.
        frozen: what `frozen_positions` gave, by the configuration.
        **kwargs: arguments of the layer.
    """

    def __init__(self, *args: Any, frozen: Sequence[int] = (), **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._frozen = tuple(frozen)

    def freeze_again(self) -> None:
        """Freezes the layers that were frozen when the configuration was made."""
        layer: Any = self
        if self._frozen:
            freeze_positions(layer, self._frozen)
        elif not layer.trainable:  # set when there was no layer inside yet
            freeze_positions(layer, range(len(list(keras_private.flattened_layers(layer)))))

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration of the layer; see `keras.Layer.get_config`."""
        layer: Any = self
        config = super().get_config()  # pyright: ignore[reportAttributeAccessIssue]
        frozen = frozen_positions(layer)
        return {**config, "frozen": frozen} if frozen else config


def _set_trainable(layers: Sequence[keras.Layer], frozen: Collection[int]) -> None:
    """Freezes exactly the layers at some positions, given layers with the outermost first.

    Setting `trainable` of a layer also sets it for those inside it, which come later. A layer that
    lies in two others may come before the second one; further passes correct it.
    """
    for _ in range(3):
        for i, layer in enumerate(layers):
            if layer.trainable == (i in frozen):
                layer.trainable = i not in frozen
    for layer in layers:  # a weight that was made after its layer was frozen counts as trainable
        own = [] if _decided_by(layer) else keras_private.own_learned_variables(layer)
        for weight in own:
            weight.trainable = layer.trainable


def _decided_by(layer: keras.Layer) -> keras.Layer | None:
    """Gives the layer that says whether the weights of `layer` are trained; None for itself."""
    return layer.decided_by() if isinstance(layer, SharesWeights) else None


def _named(
    model: keras.Model, every: Iterable[keras.Layer], names: str | Sequence[str]
) -> list[keras.Layer]:
    """Finds the layers that names or patterns stand for."""
    every, found = [layer for layer in every if layer is not model], []
    for name in [names] if isinstance(names, str) else names:
        layers = [layer for layer in every if fnmatchcase(layer.name, name)]
        layers += interface(model).head_layers() if name == HEAD else []
        if not layers:
            if name == HEAD:
                raise ValueError(
                    f"the head of {model.name} has no weights of its own, so none can train alone"
                )
            some = ", ".join(layer.name for layer in model.layers)
            raise ValueError(f"{model.name} has no layer {name!r}; its layers are {some}")
        deciding = [layer for layer in layers if _decided_by(layer) is None]
        if not deciding:
            of: Any = _decided_by(layers[0])
            raise ValueError(
                f"{layers[0].name} of {model.name} uses the weights of {of.name}, with which it is "
                f"frozen or trained: name {of.name}"
            )
        found += deciding
    return found


def _around(every: Iterable[keras.Layer], inner: set[int]) -> set[int]:
    """Gives the ids of the layers that hold one of `inner`, themselves given by their ids."""
    return {
        id(layer)
        for layer in every
        if inner & {id(x) for x in keras_private.flattened_layers(layer, include_self=False)}
    }


def _check_trainable(
    model: keras.Model,
    every: Iterable[keras.Layer],
    named: Iterable[keras.Layer],
    outer: Collection[int],
) -> None:
    """Refuses to train nothing, or more than was named."""
    if not any(keras_private.learned_variables(layer) for layer in named):
        names = ", ".join(dict.fromkeys(layer.name for layer in named)) or "nothing"
        raise ValueError(f"{names} of {model.name} has no weights, so that nothing would train")
    for layer in every:
        if id(layer) in outer and keras_private.own_learned_variables(layer):
            raise ValueError(
                f"{layer.name} has weights of its own besides the layer to train in it; name "
                f"{layer.name} as a whole"
            )
