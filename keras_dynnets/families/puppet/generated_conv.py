"""A convolution whose kernel is given with every call."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GeneratedConv2D(keras.layers.Layer):
    """A convolution with a kernel that something else generates; it has no weights.

    Args:
        strides, padding, dilation_rate, groups, activation: as of `keras.layers.Conv2D`.
        depthwise: whether it is one of each channel, as `keras.layers.DepthwiseConv2D`.

    Call arguments:
        inputs: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels / groups, filters), of a depthwise one
            (kernel height, kernel width, channels, multiplier); or with the batch first, a kernel for each image: all
            of them run as one convolution with as many groups as there are images.

    Output shape: (batch, new height, new width, filters).
    """

    def __init__(
        self,
        strides=(1, 1),
        padding="valid",
        dilation_rate=(1, 1),
        groups=1,
        depthwise=False,
        activation=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.strides = tuple(strides)
        self.padding = padding
        self.dilation_rate = tuple(dilation_rate)
        self.groups = groups
        self.depthwise = depthwise
        self.activation = keras.activations.get(activation)

    @classmethod
    def like(cls, layer):
        """One that runs as a `Conv2D` or `DepthwiseConv2D` does, but for its bias."""
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        return cls(
            layer.strides,
            layer.padding,
            layer.dilation_rate,
            1 if depthwise else layer.groups,
            depthwise,
            layer.activation,
            name=layer.name,
            dtype=layer.dtype_policy,
        )

    def call(self, inputs, kernel):
        inputs, kernel = ops.cast(inputs, self.compute_dtype), ops.cast(kernel, self.compute_dtype)
        form = dict(
            padding=self.padding, dilation_rate=self.dilation_rate, data_format="channels_last"
        )
        if len(kernel.shape) == 5:
            return self.activation(self._each(inputs, kernel, form))
        convolve = ops.depthwise_conv if self.depthwise else ops.conv
        return self.activation(convolve(inputs, kernel, self.strides, **form))

    def _each(self, inputs, kernels, form):
        """A kernel for each image: images side by side, as channels."""
        n = ops.shape(inputs)[0]
        _, height, width, channels = inputs.shape
        rows, columns, reads, filters = kernels.shape[1:]
        images = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (1, height, width, n * channels))
        if self.depthwise:
            kernel = ops.reshape(
                ops.transpose(kernels, (1, 2, 0, 3, 4)), (rows, columns, n * channels, filters)
            )
            outputs = ops.depthwise_conv(images, kernel, self.strides, **form)
            return self._apart(outputs, n, channels * filters)
        kernel = ops.reshape(
            ops.transpose(kernels, (1, 2, 3, 0, 4)), (rows, columns, reads, n * filters)
        )
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras would send it through XLA, whose gradient of it is slow, and which wants the batch's size.
            outputs = tf.nn.conv2d(
                images,
                kernel,
                self.strides,
                self.padding.upper(),
                dilations=self.dilation_rate,
                data_format="NHWC",
            )
        else:
            outputs = ops.conv(images, kernel, self.strides, **form)
        return self._apart(outputs, n, filters)

    @staticmethod
    def _apart(outputs, n, filters):
        outputs = ops.reshape(outputs, (*outputs.shape[1:3], n, filters))
        return ops.transpose(outputs, (2, 0, 1, 3))

    def get_config(self):
        names = ("strides", "padding", "dilation_rate", "groups", "depthwise")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "activation": keras.activations.serialize(self.activation),
        }
