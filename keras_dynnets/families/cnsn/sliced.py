"""Layers that run on a part of another layer's channels, with that layer's weights."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_dynnets.core import keras_private
from keras_dynnets.core.copying import copied
from keras_dynnets.core.deployable import SharesWeights
from keras_dynnets.layers.batch_normalization import BatchNormalization


class SliceOfLayer(SharesWeights, keras.layers.Layer):
    """What slices of all kinds have in common: the layer `of`, whose weights are used.

    A slice has the trained variables of `of` among its own, but not `of` itself: `of` is no
    sub-layer of it, and keeps its own `trainable`.

    Attributes:
        of: the layer whose weights are used, built.
        decides: whether `trainable` of the slice says if the weights of `of` are trained. It does
            where the slice stands for `of`; in a model that has `of` as a layer of its own, that
            layer says it.
    """

    of: Any
    decides = True

    def use(self, of: keras.Layer) -> None:
        """Takes the weights of a layer."""
        keras_private.set_untracked(self, "of", of)
        keras_private.adopt_variables(self, keras_private.learned_variables(of))

    def twin(self) -> "SliceOfLayer":
        """Gives a slice that stands for `of`, on the same variables."""
        other: Any = keras_private.twin(self)
        keras_private.set_untracked(other, "of", keras_private.twin(self.of))
        keras_private.set_own_flag(other, self.trainable and self.of.trainable)
        other.decides = True
        return other

    @property
    def trainable(self) -> bool:
        """Whether the layer is trained."""
        return keras.layers.Layer.trainable.fget(self)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if self.decides:
            keras.layers.Layer.trainable.fset(self, value)
        else:
            keras_private.set_own_flag(self, value)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        layer = cls(**{**config, "of": keras.saving.deserialize_keras_object(config["of"])})
        for variable in keras_private.learned_variables(layer.of):
            variable.trainable = layer.trainable
        return layer

    def whole(self) -> Any:
        """Gives `of`, whose weights must be those that it was built with.

        Raises:
            ValueError: `of` is quantized.
        """
        if getattr(self.of, "quantization_mode", None) is not None:
            raise ValueError(
                f"{self.of.name!r} is quantized, and {self.name!r} uses a part of its weights as "
                "they were; export a part with precision='int8' instead"
            )
        return self.of

    def __dir__(self) -> list[str]:
        """Lists the attributes, which Keras follows to save what they hold.

        Where `of` is a layer of the model itself, it is saved there.
        """
        return [name for name in super().__dir__() if name != "of" or self.decides]

    def save_own_variables(self, store: Any) -> None:
        for i, variable in enumerate(self.own_variables()):
            store[str(i)] = variable

    def load_own_variables(self, store: Any) -> None:
        for i, variable in enumerate(self.own_variables()):
            variable.assign(store[str(i)])

    def own_variables(self) -> list[Any]:
        """Lists the variables that are not those of `of`."""
        return []


class Sliced(SliceOfLayer):
    """A layer that uses a part of another layer's kernel and bias.

    Args:
        of: keras.Layer, built, whose weights are used.
        reads: increasing ints, the channels of the input of `of` that this layer's input has.
        writes: increasing ints, the channels of the output of `of` that this layer computes.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, of: keras.Layer, reads: Sequence[int], writes: Sequence[int], **kwargs: Any):
        super().__init__(**{"dtype": of.dtype_policy, "name": f"{of.name}_sliced", **kwargs})
        self.reads = tuple(reads)
        self.writes = tuple(writes)
        self.use(of)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes no weights, since `of` has them."""

    def get_config(self) -> dict[str, Any]:
        of = keras.saving.serialize_keras_object(self.of)
        return {**super().get_config(), "of": of, "reads": self.reads, "writes": self.writes}

    def stand_in(self) -> keras.Layer:
        return copied(self.of, **self._plain_size())

    def _plain_size(self) -> dict[str, Any]:
        """Gives what the config of the plain layer that computes the same has otherwise."""
        raise NotImplementedError(f"{type(self).__name__} must define _plain_size()")

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return self.stand_in().compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="keras_dynnets")
class SlicedConv2D(Sliced):
    """A `Conv2D` or `DepthwiseConv2D` on a part of its channels, with the weights of the whole.

    Args:
        of: keras.layers.Conv2D or keras.layers.DepthwiseConv2D, built, without groups.
        reads: increasing ints, the input channels of `of` that this layer's input has.
        writes: increasing ints, the output channels of `of` that this layer computes. For a
            depthwise convolution they are all output channels of the input channels in `reads`.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, height, width, len(reads)).

    Output shape: (batch, new height, new width, len(writes)).

    Example:
        >>> half = SlicedConv2D(conv, reads=range(8), writes=range(16))
        >>> outputs = half(images[..., :8])

    Reference: Yu et al., Slimmable Neural Networks, arXiv 1812.08928, section 3.
    """

    def values(self) -> list[Any]:
        of = self.whole()
        depthwise = isinstance(of, keras.layers.DepthwiseConv2D)
        kernel = taken(of.kernel, self.reads, 2)
        values = [kernel if depthwise else taken(kernel, self.writes, 3)]
        return [*values, taken(of.bias, self.writes, 0)] if of.use_bias else values

    def call(self, inputs: Any) -> Any:
        of = self.of
        kernel, *bias = [ops.cast(v, self.compute_dtype) for v in self.values()]
        conv = ops.depthwise_conv if isinstance(of, keras.layers.DepthwiseConv2D) else ops.conv
        outputs = conv(inputs, kernel, of.strides, of.padding, of.data_format, of.dilation_rate)
        return of.activation(outputs + bias[0] if bias else outputs)

    def _plain_size(self) -> dict[str, Any]:
        depthwise = isinstance(self.of, keras.layers.DepthwiseConv2D)
        return {} if depthwise else {"filters": len(self.writes)}


@keras.saving.register_keras_serializable(package="keras_dynnets")
class SlicedDense(Sliced):
    """A `Dense` layer on a part of its features, with the weights of the whole.

    Args:
        of: keras.layers.Dense, built.
        reads: increasing ints, the input features of `of` that this layer's input has.
        writes: increasing ints, the output features of `of` that this layer computes.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, ..., len(reads)).

    Output shape: (batch, ..., len(writes)).

    Example:
        >>> head = SlicedDense(dense, reads=range(256), writes=range(10))
        >>> logits = head(features[:, :256])

    Reference: Yu et al., Slimmable Neural Networks, arXiv 1812.08928, section 3.
    """

    def values(self) -> list[Any]:
        of = self.whole()
        kernel = taken(taken(of.kernel, self.reads, 0), self.writes, 1)
        return [kernel, taken(of.bias, self.writes, 0)] if of.use_bias else [kernel]

    def call(self, inputs: Any) -> Any:
        kernel, *bias = [ops.cast(v, self.compute_dtype) for v in self.values()]
        outputs = ops.matmul(inputs, kernel)
        return self.of.activation(outputs + bias[0] if bias else outputs)

    def _plain_size(self) -> dict[str, Any]:
        return {"units": len(self.writes)}


@keras.saving.register_keras_serializable(package="keras_dynnets")
class SlicedBatchNormalization(SliceOfLayer, BatchNormalization):
    """A batch norm with statistics of its own and another layer's scale and offset.

    Args:
        of: keras.layers.BatchNormalization, built, whose scale and offset are used.
        reads: increasing ints, the channels of `of` that this layer's input has.
        **kwargs: arguments of `keras.layers.BatchNormalization`; axis, momentum, epsilon and
            dtype are those of `of` by default.

    Input shape: the shape of the input of `of`, with len(reads) channels.

    Output shape: the shape of the input.

    Example:
        >>> norm = SlicedBatchNormalization(whole_norm, reads=range(8))
        >>> outputs = norm(features[..., :8], training=True)

    Reference: Yu et al., Slimmable Neural Networks, arXiv 1812.08928, section 3.2 (switchable
    batch normalization). Deviation: scale and offset are shared by all widths.
    """

    def __init__(self, of: keras.layers.BatchNormalization, reads: Sequence[int], **kwargs: Any):
        own = {
            "axis": of.axis,
            "momentum": of.momentum,
            "epsilon": of.epsilon,
            "dtype": of.dtype_policy,
        }
        super().__init__(**{**own, "name": f"{of.name}_sliced", **kwargs})
        self.reads = tuple(reads)
        self.use(of)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.scale = self.center = False  # otherwise Keras would make a new scale and offset
        super().build(input_shape)
        self.scale, self.center = self.of.scale, self.of.center

    @property
    def gamma(self) -> Any:
        """The scale of each channel, a tensor; None if `of` has no scale."""
        return taken(self.of.gamma, self.reads, 0) if self.of.scale else None

    @gamma.setter
    def gamma(self, value: Any) -> None:
        """Ignores the None that the constructor of Keras's layer sets."""

    @property
    def beta(self) -> Any:
        """The offset of each channel, a tensor; None if `of` has no offset."""
        return taken(self.of.beta, self.reads, 0) if self.of.center else None

    @beta.setter
    def beta(self, value: Any) -> None:
        """Ignores the None that the constructor of Keras's layer sets."""

    def values(self) -> list[Any]:
        values = (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        return [value for value in values if value is not None]

    def used_params(self) -> int:
        return sum(math.prod(v.shape) for v in (self.gamma, self.beta) if v is not None)

    def stand_in(self) -> keras.Layer:
        return type(self.of).from_config({**self.of.get_config(), "momentum": self.momentum})

    def get_config(self) -> dict[str, Any]:
        config = keras.layers.Layer.get_config(self)
        of = keras.saving.serialize_keras_object(self.of)
        return {**config, "momentum": self.momentum, "of": of, "reads": self.reads}

    def own_variables(self) -> list[Any]:
        return [self.moving_mean, self.moving_variance]


def taken(variable: Any, channels: tuple[int, ...], axis: int) -> Any:
    """Gives some channels of a weight.

    Args:
        variable: a variable or tensor.
        channels: increasing indices along `axis`.
        axis: axis of the channels, from 0.

    Returns:
        A tensor.
    """
    if channels == tuple(range(variable.shape[axis])):
        return ops.convert_to_tensor(variable)
    if channels == tuple(range(len(channels))):  # a slice costs less than a gather
        return variable[(slice(None),) * axis + (slice(len(channels)),)]
    return ops.take(variable, channels, axis)
