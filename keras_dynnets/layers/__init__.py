"""Every Keras layer of the library, by its name: `keras_dynnets.layers.GroupedConv2D`.

The layers in this package belong to no family of networks. Those of the families are found here
too, by the names under which they are registered with Keras.
"""

import keras

from keras_dynnets.layers.batch_normalization import BatchNormalization
from keras_dynnets.layers.channel_slice import ChannelSlice
from keras_dynnets.layers.grouped_conv import GroupedConv2D

__all__ = ["BatchNormalization", "ChannelSlice", "GroupedConv2D"]

_PREFIX = "keras_dynnets>"


def _registered() -> dict[str, type]:
    """Gives the layers that are registered with Keras under this library's name."""
    found = {}
    for name, kind in keras.saving.get_custom_objects().items():
        is_layer = isinstance(kind, type) and issubclass(kind, keras.Layer)
        if name.startswith(_PREFIX) and is_layer and not issubclass(kind, keras.Model):
            found[name.removeprefix(_PREFIX)] = kind
    return found


def __getattr__(name: str) -> type:
    layers = _registered()
    if name in layers:
        return layers[name]
    raise AttributeError(f"keras_dynnets has no layer {name!r}; it has {', '.join(sorted(layers))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_registered()})
