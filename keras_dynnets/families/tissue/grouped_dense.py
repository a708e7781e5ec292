"""Dense layers side by side as one product."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_dynnets.core import cost
from keras_dynnets.core.cost import Costed


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GroupedDense(Costed, keras.layers.Layer):
    """Dense layers side by side, each on its own features, computed as one product.

    Args:
        units: int, number of outputs of all groups together, a multiple of `groups`.
        groups: int, number of dense layers.
        activation: str or callable, activation after the bias; None for none.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, features).

    Output shape: (batch, units).

    Raises:
        ValueError: `groups` does not divide `units` or the features, or an input has another
            rank.

    Example:
        >>> GroupedDense(8, groups=4)(keras.ops.ones((1, 12))).shape
        (1, 8)

    Reference: Lan et al., TissueNet, arXiv 2205.01508, section 3.3.
    """

    def __init__(
        self,
        units: int,
        groups: int,
        activation: str | Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if groups < 1 or units < 1 or units % groups:
            raise ValueError(
                f"units must be a multiple of the groups, not {units} in {groups} groups"
            )
        self.units = units
        self.groups = groups
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Sequence[int | None]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                f"{self.name} takes inputs (batch, features), not {tuple(input_shape)}"
            )
        features = input_shape[-1]
        if features is None or features % self.groups:
            raise ValueError(
                f"{features} features do not go into {self.groups} groups; give a number of groups "
                "that divides them"
            )
        shape = (self.groups, features // self.groups, self.units // self.groups)
        # The limit is that of one group; Keras would count the groups as a window, and its fans
        # would be too large.
        limit = (6 / (shape[1] + shape[2])) ** 0.5
        initializer = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(shape, initializer, name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        x = ops.reshape(inputs, (-1, *self.kernel.shape[:2]))
        y = ops.reshape(ops.einsum("bgi,gio->bgo", x, self.kernel), (-1, self.units))
        return self.activation(y + self.bias)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def macs(self, input_shape: tuple) -> int:
        return cost.dense_macs(input_shape[-1] // self.groups, self.units)

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        return {
            **super().get_config(),
            "units": self.units,
            "groups": self.groups,
            "activation": activation,
        }
