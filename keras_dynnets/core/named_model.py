"""A plain functional model that keeps the names of its classes when it is saved."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_dynnets.core import keras_private
from keras_dynnets.core.class_names import (
    ATTRIBUTE,
    keep_names,
    names_from_config,
    names_in_config,
)


@keras.saving.register_keras_serializable(package="keras_dynnets")
class NamedModel(keras.Model):
    """A functional model whose `.keras` file holds its `class_names`.

    Keras itself saves nothing of a functional model but its layers. To load such a file, import
    `keras_dynnets` first. `keras.Model(model.inputs, model.outputs)` has no names.

    Example:
        >>> zoo.load("resnet20").save("m.keras")
        >>> keras.saving.load_model("m.keras").class_names[3]
        'cat'
    """

    @classmethod
    def around(cls, model: Any) -> Any:
        """Gives a plain functional model as a `NamedModel` with the same layers.

        Args:
            model: any Keras model; one of another kind comes back unchanged.
        """
        if isinstance(model, cls) or not keras_private.is_plain_functional(model):
            return model
        inputs = keras_private.structured_inputs(model)
        outputs = keras_private.structured_outputs(model)
        return cls(inputs=inputs, outputs=outputs, name=model.name, trainable=model.trainable)

    def quantize(self, *args: Any, **options: Any) -> None:
        """Quantises the weights; the names stay. See `keras.Model.quantize`.

        Args:
            *args: see there.
            **options: see there.
        """
        keep_names(self, lambda: super(NamedModel, self).quantize(*args, **options))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **names_in_config(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "NamedModel":
        """Makes a model from what `get_config` gives.

        Args:
            config: the configuration.
            custom_objects: classes by name, see `keras.Model.from_config`.
        """
        config = dict(config)
        names = config.pop(ATTRIBUTE, None)
        return names_from_config(super().from_config(config, custom_objects), names)
