"""Loads the values of a weights file into a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def fill_weights(
    model: "keras.Model", path: str | Path, part: Mapping[str, Any] | None = None
) -> None:
    """Loads the values of a `.weights.h5` file into a model.

    Keras refuses links to other files and values that are stored outside the file, and nothing in
    such a file is ever executed.

    Args:
        model: the whole model that the file was saved from.
        path: the `.weights.h5` file.
        part: arguments of `model.detach`. Only the weights of the part that they detach are read.

    Raises:
        ValueError: the file is damaged, holds the weights of another network, or holds values that
            are not finite.
    """
    from keras_dynnets.core.dynamic import interface

    network = model.detach(**part) if part else model
    classes = interface(network).logits_tensor.shape[-1]
    try:
        if part:
            _load_part(model, network, path)
        else:
            model.load_weights(path)
    except Exception as error:  # a malicious file can fail anywhere in Keras and h5py
        raise ValueError(
            f"{path} does not hold the weights of {model.name} with {classes} classes; give the "
            f"num_classes and options that it was saved with ({type(error).__name__}: {error})"
        ) from error
    if wrong := _not_finite(network):
        raise ValueError(
            f"{path} is refused: it holds values that are not finite, in {', '.join(wrong)}"
        )


def _not_finite(model: "keras.Model") -> list[str]:
    """Lists the variables with infinite or NaN values, at most three of them and then "..."."""
    import keras

    floats = [v for v in model.variables if keras.backend.is_float_dtype(v.dtype)]
    names = [v.path for v in floats if not keras.ops.all(keras.ops.isfinite(v))]
    return [*names[:3], *(["..."] if len(names) > 3 else [])]


def _load_part(model: "keras.Model", part: "keras.Model", path: str | Path) -> None:
    """Loads only the values of the layers that `part` shares with `model`."""
    from keras_dynnets.core.keras_private import flattened_layers

    needed = {id(v) for v in part.variables}
    left_out = [
        layer
        for layer in flattened_layers(model)
        if not needed.intersection(map(id, layer.variables))
    ]
    try:
        for layer in left_out:
            layer.load_own_variables = lambda store: None
        model.load_weights(path)
    finally:
        for layer in left_out:
            del layer.load_own_variables
