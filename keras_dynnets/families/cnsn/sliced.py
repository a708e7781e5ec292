"""Layers that run on a part of another layer's channels, with that layer's weights."""

import math

import keras
from keras import ops

from keras_dynnets.core.deployable import SharesWeights
from keras_dynnets.layers.batch_normalization import BatchNormalization


class Sliced(SharesWeights, keras.layers.Layer):
    """What the layers of this file share: whose weights they use, and which of its channels.

    Args:
        of: a built Keras layer.
        reads: the channels of its input that are there, as increasing indices.
        writes: those of its output that are wanted.
    """

    def __init__(self, of, reads, writes, **kwargs):
        super().__init__(**{"dtype": of.dtype_policy, "name": f"{of.name}_sliced", **kwargs})
        self.of = of
        self.reads = tuple(reads)
        self.writes = tuple(writes)

    def build(self, input_shape):
        """Its weights are there."""

    def get_config(self):
        of = keras.saving.serialize_keras_object(self.of)
        return {**super().get_config(), "of": of, "reads": self.reads, "writes": self.writes}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "of": keras.saving.deserialize_keras_object(config["of"])})

    def stand_in(self):
        return type(self.of).from_config(self._plain_config())

    def compute_output_shape(self, input_shape):
        return self.stand_in().compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="keras_dynnets")
class SlicedConv2D(Sliced):
    """A `Conv2D` or `DepthwiseConv2D` on a part of its channels (see `Sliced`)."""

    def values(self):
        """Kernel and, if there is one, bias."""
        depthwise = isinstance(self.of, keras.layers.DepthwiseConv2D)
        kernel = taken(self.of.kernel, self.reads, 2)
        values = [kernel if depthwise else taken(kernel, self.writes, 3)]
        return [*values, taken(self.of.bias, self.writes, 0)] if self.of.use_bias else values

    def call(self, inputs):
        of = self.of
        kernel, *bias = [ops.cast(v, self.compute_dtype) for v in self.values()]
        conv = ops.depthwise_conv if isinstance(of, keras.layers.DepthwiseConv2D) else ops.conv
        outputs = conv(inputs, kernel, of.strides, of.padding, of.data_format, of.dilation_rate)
        return of.activation(outputs + bias[0] if bias else outputs)

    def _plain_config(self):
        config = self.of.get_config()
        return (
            config
            if isinstance(self.of, keras.layers.DepthwiseConv2D)
            else {**config, "filters": len(self.writes)}
        )


@keras.saving.register_keras_serializable(package="keras_dynnets")
class SlicedDense(Sliced):
    """A `Dense` layer on a part of its features (see `Sliced`)."""

    def values(self):
        """Kernel and, if there is one, bias."""
        kernel = taken(taken(self.of.kernel, self.reads, 0), self.writes, 1)
        return [kernel, taken(self.of.bias, self.writes, 0)] if self.of.use_bias else [kernel]

    def call(self, inputs):
        kernel, *bias = [ops.cast(v, self.compute_dtype) for v in self.values()]
        outputs = ops.matmul(inputs, kernel)
        return self.of.activation(outputs + bias[0] if bias else outputs)

    def _plain_config(self):
        return {**self.of.get_config(), "units": len(self.writes)}


@keras.saving.register_keras_serializable(package="keras_dynnets")
class SlicedBatchNormalization(SharesWeights, BatchNormalization):
    """Batch normalization by another layer's scale and offset, with statistics of its own.

    Args:
        of: a built `keras.layers.BatchNormalization`.
        reads: those of its channels that are there, as increasing indices.
    """

    def __init__(self, of, reads, **kwargs):
        own = {
            "axis": of.axis,
            "momentum": of.momentum,
            "epsilon": of.epsilon,
            "dtype": of.dtype_policy,
        }
        super().__init__(**{**own, "name": f"{of.name}_sliced", **kwargs})
        self.of = of
        self.reads = tuple(reads)

    def build(self, input_shape):
        self.scale = self.center = False  # or there would be a scale and an offset of its own
        super().build(input_shape)
        self.scale, self.center = self.of.scale, self.of.center

    @property
    def gamma(self):
        return taken(self.of.gamma, self.reads, 0) if self.of.scale else None

    @property
    def beta(self):
        return taken(self.of.beta, self.reads, 0) if self.of.center else None

    @gamma.setter
    def gamma(self, value):
        """Keras's layer sets it to None when it is made."""

    @beta.setter
    def beta(self, value):
        """As gamma."""

    def values(self):
        """Scale and offset, where there are any, and the moving statistics."""
        return [
            v
            for v in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
            if v is not None
        ]

    def used_params(self):
        return sum(math.prod(v.shape) for v in (self.gamma, self.beta) if v is not None)

    def stand_in(self):
        return type(self.of).from_config({**self.of.get_config(), "momentum": self.momentum})

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        of = keras.saving.serialize_keras_object(self.of)
        return {**config, "momentum": self.momentum, "of": of, "reads": self.reads}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "of": keras.saving.deserialize_keras_object(config["of"])})


def taken(variable, channels, axis):
    """The given channels of a weight, as a tensor."""
    size = variable.shape[axis]
    if channels == tuple(range(size)):
        return ops.convert_to_tensor(variable)
    if channels == tuple(
        range(len(channels))
    ):  # the first so many: a slice costs less than a gather
        return variable[(slice(None),) * axis + (slice(len(channels)),)]
    return ops.take(variable, channels, axis)
