"""TissueNet's stacked layers: many small networks side by side in place of full layers."""

import numbers
from itertools import accumulate, pairwise

import keras
from keras import ops

from keras_dynnets.core import cost
from keras_dynnets.core.cost import Costed
from keras_dynnets.core.deployable import Deployable, Deployer
from keras_dynnets.layers.batch_normalization import BatchNormalization
from keras_dynnets.layers.grouped_conv import GroupedConv2D


class StackedUnits(Costed, Deployable, keras.layers.Layer):
    """What stacks of units share: which channels a unit reads and where its results go.

    A unit is a tuple of widths (c_in, c_hidden, ..., c_out). Every unit has channels of its own:
    the first unit reads the first c_in channels and writes the first c_out, and so on. Units
    of equal widths run together, as one chain of grouped layers.
    """

    def __init__(self, units, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.hybrid = (
            isinstance(units, (list, tuple)) and bool(units) and isinstance(units[0], (list, tuple))
        )
        self.units = [_checked(unit) for unit in units] if self.hybrid else _checked(units)
        self.depth = len(self.units[0] if self.hybrid else self.units) - 1
        if self.hybrid and len({len(unit) for unit in self.units}) > 1:
            raise ValueError(
                f"units in one layer have the same number of layers; these differ: {self.units}"
            )
        self.activation = keras.activations.get(activation)

    def stacked(self, channels):
        """The units in order, for an input of so many channels.

        Raises:
            ValueError: the units do not take exactly these channels.
        """
        if not self.hybrid:
            if channels % self.units[0]:
                raise ValueError(
                    f"{self.name}: units that read {self.units[0]} channels do not go into {channels}; "
                    f"give units whose first number divides {channels}"
                )
            return [self.units] * (channels // self.units[0])
        if (read := sum(unit[0] for unit in self.units)) != channels:
            raise ValueError(
                f"{self.name}: its {len(self.units)} units read {read} channels and the input has {channels}"
            )
        return self.units

    def build(self, input_shape):
        units = self.stacked(input_shape[self.axis])
        first_in = [0, *accumulate(unit[0] for unit in units)]
        first_out = [0, *accumulate(unit[-1] for unit in units)]
        chains, reads, writes = [], [], []
        for unit in dict.fromkeys(units):
            equal = [i for i, other in enumerate(units) if other == unit]
            reads.append([c for i in equal for c in range(first_in[i], first_in[i + 1])])
            writes += [c for i in equal for c in range(first_out[i], first_out[i + 1])]
            chains.append(
                keras.Sequential(
                    self.make_chain(unit, len(equal)), name=f"units_{'_'.join(map(str, unit))}"
                )
            )
        order = sorted(range(len(writes)), key=writes.__getitem__)  # of the concatenated channels
        self.side_by_side = SideBySide(
            chains, reads, order, self.axis, name="side_by_side", dtype=self.dtype_policy
        )
        self.side_by_side.build(input_shape)
        if not self.trainable:  # set before there was anything inside
            self.side_by_side.trainable = False

    def call(self, inputs, training=None):
        return self.side_by_side(inputs, training=training)

    def compute_output_shape(self, input_shape):
        units = self.stacked(input_shape[self.axis])
        return _with_channels(
            self.spatial_shape(input_shape), self.axis, sum(unit[-1] for unit in units)
        )

    def inner_calls(self, input_shape):
        return self.side_by_side.inner_calls(input_shape)

    def deployed(self, deployer: Deployer) -> "SideBySide":
        units = self.side_by_side
        chains = [deployer.chain(chain) for chain in units.chains]
        form = {"name": self.name, "dtype": "float32"}
        return SideBySide(chains, units.reads, units.order, units.axis, **form)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
        }


class SideBySide(Costed, keras.layers.Layer):
    """Chains of layers that each take channels of their own, with their results in a given order.

    Args:
        chains: `keras.Sequential`s.
        reads: for each chain, the channels that it takes.
        order: the channels of the result, as positions among the chains' joined results.
        axis: that of the channels, -1 or 1.
    """

    def __init__(self, chains, reads, order, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.chains = list(chains)
        self.reads = reads
        self.order = order
        self.axis = axis

    def build(self, input_shape):
        for chain, shape in self.inner_calls(input_shape):
            if not chain.built:
                chain.build(shape)

    def inner_calls(self, input_shape):
        reads = zip(self.chains, self.reads, strict=True)
        return [
            (chain, _with_channels(input_shape, self.axis, len(channels)))
            for chain, channels in reads
        ]

    def call(self, inputs, training=None):
        if len(self.chains) == 1:
            return self.chains[0](inputs, training=training)
        reads = zip(self.chains, self.reads, strict=True)
        parts = [
            chain(self._taken(inputs, channels), training=training) for chain, channels in reads
        ]
        return self._taken(ops.concatenate(parts, self.axis), self.order)

    def _taken(self, x, channels):
        first, last = channels[0], channels[-1] + 1
        if channels != list(range(first, last)):
            return ops.take(x, channels, self.axis)
        if last - first == x.shape[self.axis]:
            return x
        return x[..., first:last] if self.axis == -1 else x[:, first:last]


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StackedUnits2D(StackedUnits):
    """Stacked convolutional units (TissueNet, eq. 2-3).

    `Concat(Unit_1(x_1), ..., Unit_m(x_m))`, every unit a small network of 2 to 4 convolutions,
    each with its bias, batch norm and activation.

    Args:
        units: one unit, such as (2, 4, 2), repeated as often as the input's channels
            allow; or a list of units in the order of the channels they read (hybrid).
        kernel_size: of all convolutions, an integer, or one for each layer of a unit.
        strides: 1, or a stride for each layer of a unit.
        use_bias: whether convolutions have a bias.
        batch_norm: whether batch norm follows each.
        activation: after each layer; None for none.
        data_format: "channels_last" or "channels_first"; default: Keras's setting.

    Input shape: (batch, height, width, channels), or channels first.

    Output shape: (batch, new height, new width, sum of the units' last widths).

    Raises:
        ValueError: widths that are no unit, units that do not take exactly the input's channels,
            kernel sizes or strides of another number than the unit's layers.

    Example:
        >>> StackedUnits2D((2, 4, 2))(keras.ops.ones((1, 8, 8, 64))).shape
        (1, 8, 8, 64)

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, section 3.2.
    """

    def __init__(
        self,
        units,
        kernel_size=3,
        strides=1,
        use_bias=True,
        batch_norm=True,
        activation="relu",
        data_format=None,
        **kwargs,
    ):
        super().__init__(units, activation, **kwargs)
        self.kernel_size = _for_each_layer("kernel_size", kernel_size, self.depth)
        if isinstance(strides, numbers.Integral) and strides != 1:
            raise ValueError(
                f"strides is 1 or a stride for each of the unit's {self.depth} layers, not {strides}"
            )
        self.strides = _for_each_layer("strides", strides, self.depth)
        self.use_bias = use_bias
        self.batch_norm = batch_norm
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                f"data_format is 'channels_last' or 'channels_first', not {data_format!r}"
            )
        self.axis = -1 if self.data_format == "channels_last" else 1

    def make_chain(self, unit, count):
        """Layers of `count` equal units."""
        chain = []
        for i, (_, width) in enumerate(pairwise(unit)):
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
                    dtype=self.dtype_policy,
                )
            )
            if self.batch_norm:
                axis = self.axis
                chain.append(
                    BatchNormalization(axis, 0.9, 1e-5, name=f"bn{i + 1}", dtype=self.dtype_policy)
                )
            if self.activation is not keras.activations.linear:
                chain.append(
                    keras.layers.Activation(
                        self.activation, name=f"act{i + 1}", dtype=self.dtype_policy
                    )
                )
        return chain

    def spatial_shape(self, input_shape):
        rows = slice(1, 3) if self.axis == -1 else slice(2, 4)
        shape = list(input_shape)
        for stride in self.strides:
            shape[rows] = [n and -(-n // stride) for n in shape[rows]]
        return shape

    def get_config(self):
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
        units: one unit, such as (2, 4, 2), repeated as often as the input's features
            allow; or a list of units in the order of the features they read (hybrid).
        activation: after each layer; None for none.

    Input shape: (batch, features).

    Output shape: (batch, sum of the units' last widths).

    Raises:
        ValueError: widths that are no unit, or units that do not take exactly the input's features.

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, section 3.3.
    """

    axis = -1

    def make_chain(self, unit, count):
        """Layers of `count` equal units."""
        widths = list(pairwise(unit))
        return [
            GroupedDense(
                count * b, count, self.activation, name=f"dense{i}", dtype=self.dtype_policy
            )
            for i, (_, b) in enumerate(widths, 1)
        ]

    def spatial_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GroupedDense(Costed, keras.layers.Layer):
    """Dense layers side by side, each on its own features, as one product.

    Args:
        units: outputs of all groups together.
        groups: number of dense layers.
        activation: after the sum with the bias.

    Input shape: (batch, features).

    Output shape: (batch, units).

    Raises:
        ValueError: features or units that do not go into the groups.
    """

    def __init__(self, units, groups, activation=None, **kwargs):
        super().__init__(**kwargs)
        if groups < 1 or units < 1 or units % groups:
            raise ValueError(
                f"units must be a multiple of the groups, not {units} in {groups} groups"
            )
        self.units = units
        self.groups = groups
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        if len(input_shape) != 2:
            raise ValueError(
                f"{self.name} takes inputs (batch, features), not {tuple(input_shape)}"
            )
        features = input_shape[-1]
        if features % self.groups:
            raise ValueError(f"{features} features do not go into {self.groups} groups")
        shape = (self.groups, features // self.groups, self.units // self.groups)
        # the fan of a unit, where Keras would take the groups for a window that adds to it
        limit = (6 / (shape[1] + shape[2])) ** 0.5
        self.kernel = self.add_weight(
            shape, keras.initializers.RandomUniform(-limit, limit), name="kernel"
        )
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def call(self, inputs):
        x = ops.reshape(inputs, (-1, *self.kernel.shape[:2]))
        y = ops.reshape(ops.einsum("bgi,gio->bgo", x, self.kernel), (-1, self.units))
        return self.activation(y + self.bias)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def macs(self, input_shape):
        """MACs for one row of features."""
        return cost.dense_macs(input_shape[-1] // self.groups, self.units)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {
            **super().get_config(),
            "units": self.units,
            "groups": self.groups,
            "activation": activation,
        }


def _with_channels(shape, axis, channels):
    shape = list(shape)
    shape[axis] = channels
    return tuple(shape)


def _checked(unit):
    """A unit as a tuple of integers."""
    try:
        widths = tuple(int(width) for width in unit)
        right = 3 <= len(widths) <= 5 and min(widths) >= 1 and widths == tuple(unit)
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            f"a unit is 3 to 5 widths (c_in, c_hidden, ..., c_out) of 1 or more, such as (2, 4, 2), not {unit!r}"
        )
    return widths


def _for_each_layer(name, value, depth):
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * depth
    whole = all(
        isinstance(v, numbers.Integral) and not isinstance(v, bool) and v >= 1 for v in values
    )
    if len(values) != depth or not whole:
        raise ValueError(
            f"{name} is one integer or {depth}, one for each layer of the unit, not {value!r}"
        )
    return tuple(int(v) for v in values)
