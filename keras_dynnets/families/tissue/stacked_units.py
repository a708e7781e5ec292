"""TissueNet's stacked layers: many small networks side by side in place of full layers."""

import numbers
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import keras

from keras_dynnets.core.cost import Costed
from keras_dynnets.core.deployable import Deployable, Deployer
from keras_dynnets.core.freezing import KeepsFrozen
from keras_dynnets.families.tissue.grouped_dense import GroupedDense
from keras_dynnets.families.tissue.side_by_side import SideBySide
from keras_dynnets.families.tissue.units import Unit, checked_unit, for_each_layer, with_channels
from keras_dynnets.layers.batch_normalization import BatchNormalization
from keras_dynnets.layers.grouped_conv import GroupedConv2D


class StackedUnits(KeepsFrozen, Costed, Deployable, keras.layers.Layer):
    """Units side by side, each on channels of its own.

    The first unit (c_in, c_hidden, ..., c_out) reads the first c_in channels of the input and
    writes the first c_out channels of the output, the second unit the next ones, and so on. Units
    of equal widths run together, as one chain of grouped layers. Subclasses define
    `make_chain(unit, count)` and `spatial_shape(input_shape)`.

    Args:
        units: one unit, a tuple of int, repeated as often as the channels of the input allow, or
            a list of units in the order of the channels that they read.
        activation: str or callable, activation after each layer; None for none.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Attributes:
        hybrid: whether `units` is a list of units.
        depth: number of layers of a unit.
        axis: axis of the channels, -1 or 1.
    """

    axis: int

    def __init__(
        self,
        units: Sequence[int] | Sequence[Sequence[int]],
        activation: str | Callable | None = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        is_list = isinstance(units, (list, tuple)) and bool(units)
        self.hybrid = is_list and isinstance(units[0], (list, tuple))
        self.units: Any = [checked_unit(u) for u in units] if self.hybrid else checked_unit(units)
        self.depth = len(self.units[0] if self.hybrid else self.units) - 1
        if self.hybrid and len({len(unit) for unit in self.units}) > 1:
            raise ValueError(
                f"units in one layer have the same number of layers; these differ: {self.units}"
            )
        self.activation = keras.activations.get(activation)

    def make_chain(self, unit: Unit, count: int) -> list[keras.Layer]:
        """Makes the layers of equal units side by side.

        Args:
            unit: widths of a unit.
            count: number of units.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make_chain(unit, count)")

    def spatial_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """Gives the shape of the output for an input, apart from its channels.

        Args:
            input_shape: shape of the input with the batch first.
        """
        raise NotImplementedError(f"{type(self).__name__} must define spatial_shape(input_shape)")

    def stacked(self, channels: int) -> Sequence[Unit]:
        """Lists the units in order.

        Args:
            channels: number of channels of the input.

        Raises:
            ValueError: the units do not take exactly these channels.
        """
        if not self.hybrid:
            if channels % self.units[0]:
                raise ValueError(
                    f"{self.name}: units that read {self.units[0]} channels do not go into "
                    f"{channels}; give units whose first number divides {channels}"
                )
            return [self.units] * (channels // self.units[0])
        if (read := sum(unit[0] for unit in self.units)) != channels:
            raise ValueError(
                f"{self.name}: its {len(self.units)} units read {read} channels and the input has "
                f"{channels}; give units that read {channels} channels together"
            )
        return self.units

    def build(self, input_shape: Sequence[int]) -> None:
        units = self.stacked(input_shape[self.axis])
        first_in = [0, *accumulate(unit[0] for unit in units)]
        first_out = [0, *accumulate(unit[-1] for unit in units)]
        chains, reads, writes = [], [], []
        for unit in dict.fromkeys(units):
            equal = [i for i, other in enumerate(units) if other == unit]
            reads.append([c for i in equal for c in range(first_in[i], first_in[i + 1])])
            writes += [c for i in equal for c in range(first_out[i], first_out[i + 1])]
            name = f"units_{'_'.join(map(str, unit))}"
            chains.append(keras.Sequential(self.make_chain(unit, len(equal)), name=name))
        order = sorted(range(len(writes)), key=writes.__getitem__)  # of the joined channels
        self.side_by_side = SideBySide(
            chains, reads, order, self.axis, name="side_by_side", dtype=self.dtype_policy
        )
        self.side_by_side.build(input_shape)
        self.freeze_again()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.side_by_side(inputs, training=training)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int | None, ...]:
        channels = sum(unit[-1] for unit in self.stacked(input_shape[self.axis]))
        return with_channels(self.spatial_shape(input_shape), self.axis, channels)

    def inner_calls(self, input_shape: tuple) -> list[tuple[keras.Layer, tuple]]:
        return self.side_by_side.inner_calls(input_shape)

    def deployed(self, deployer: Deployer) -> SideBySide:
        units = self.side_by_side
        chains = [deployer.chain(chain) for chain in units.chains]
        form = {"name": self.name, "dtype": "float32"}
        return SideBySide(chains, units.reads, units.order, units.axis, **form)

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StackedUnits2D(StackedUnits):
    """Stacked convolutional units (TissueNet, eq. 2-3).

    The result is `Concat(Unit_1(x_1), ..., Unit_m(x_m))`, where each unit is a small network of 2
    to 4 convolutions and x_1, ..., x_m are the channels of the input in order. A batch norm and an
    activation follow each convolution.

    Deviations from the paper: its units have three layers of nodes, that is two convolutions (eq.
    2); up to four are accepted here, as its VGG-19 needs. Biases and batch norms are not in eq. 2
    and follow from its parameter counts.

    Args:
        units: tuple of int, one unit such as (2, 4, 2), repeated as often as the channels of the
            input allow; or list of such tuples, units in the order of the channels that they read
            (hybrid units).
        kernel_size: int, side of the kernel of all convolutions, or a list with one for each
            layer of a unit.
        strides: 1, or list of int, a stride for each layer of a unit.
        use_bias: bool, whether convolutions have a bias.
        batch_norm: bool, whether a batch norm follows each convolution.
        activation: str or callable, activation after each layer; None for none.
        data_format: "channels_last" or "channels_first"; None for Keras's setting.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with
    `data_format="channels_first"`.

    Output shape: (batch, new height, new width, sum of the last widths of all units), or channels
    first as the input.

    Raises:
        ValueError: the widths are no unit, the units do not take exactly the channels of the
            input, or `kernel_size` or `strides` does not have one number for each layer.

    Example:
        >>> StackedUnits2D((2, 4, 2))(keras.ops.ones((1, 8, 8, 64))).shape
        (1, 8, 8, 64)

    Reference: Lan et al., Compact Neural Networks via Stacking Designed Basic Units (TissueNet),
    arXiv 2205.01508, section 3.2.
    """

    def __init__(
        self,
        units: Sequence[int] | Sequence[Sequence[int]],
        kernel_size: int | Sequence[int] = 3,
        strides: int | Sequence[int] = 1,
        use_bias: bool = True,
        batch_norm: bool = True,
        activation: str | Callable | None = "relu",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(units, activation, **kwargs)
        self.kernel_size = for_each_layer("kernel_size", kernel_size, self.depth)
        if isinstance(strides, numbers.Integral) and strides != 1:
            raise ValueError(
                f"strides is 1 or a stride for each of the unit's {self.depth} layers, not "
                f"{strides}"
            )
        self.strides = for_each_layer("strides", strides, self.depth)
        self.use_bias = use_bias
        self.batch_norm = batch_norm
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                f"data_format is 'channels_last' or 'channels_first', not {data_format!r}"
            )
        self.axis = -1 if self.data_format == "channels_last" else 1

    def make_chain(self, unit: Unit, count: int) -> list[keras.Layer]:
        chain, policy = [], self.dtype_policy
        for i, width in enumerate(unit[1:]):
            chain.append(
                GroupedConv2D(
                    count * width,
                    self.kernel_size[i],
                    self.strides[i],
                    "same",
                    self.data_format,
                    groups=count,
                    use_bias=self.use_bias,
                    kernel_initializer="he_normal",
                    name=f"conv{i + 1}",
                    dtype=policy,
                )
            )
            if self.batch_norm:
                norm = {"axis": self.axis, "momentum": 0.9, "epsilon": 1e-5}
                chain.append(BatchNormalization(**norm, name=f"bn{i + 1}", dtype=policy))
            if self.activation is not keras.activations.linear:
                name = f"act{i + 1}"
                chain.append(keras.layers.Activation(self.activation, name=name, dtype=policy))
        return chain

    def spatial_shape(self, input_shape: Sequence[int | None]) -> list[int | None]:
        rows = slice(1, 3) if self.axis == -1 else slice(2, 4)
        shape = list(input_shape)
        for stride in self.strides:
            shape[rows] = [n and -(-n // stride) for n in shape[rows]]
        return shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "use_bias": self.use_bias,
            "batch_norm": self.batch_norm,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StackedUnits1D(StackedUnits):
    """Stacked dense units (TissueNet, eq. 2-3): small multi-layer perceptrons side by side.

    Args:
        units: tuple of int, one unit such as (2, 4, 2), repeated as often as the features of the
            input allow; or list of such tuples, units in the order of the features that they read
            (hybrid units).
        activation: str or callable, activation after each layer; None for none.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, features).

    Output shape: (batch, sum of the last widths of all units).

    Raises:
        ValueError: the widths are no unit, or the units do not take exactly the features of the
            input.

    Example:
        >>> StackedUnits1D((2, 4, 2))(keras.ops.ones((1, 784))).shape
        (1, 784)

    Reference: Lan et al., Compact Neural Networks via Stacking Designed Basic Units (TissueNet),
    arXiv 2205.01508, section 3.3.
    """

    axis = -1

    def make_chain(self, unit: Unit, count: int) -> list[keras.Layer]:
        return [
            GroupedDense(
                count * width, count, self.activation, name=f"dense{i}", dtype=self.dtype_policy
            )
            for i, (_, width) in enumerate(pairwise(unit), 1)
        ]

    def spatial_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        return input_shape
