"""A convolution whose kernel is an argument of its call."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GeneratedConv2D(keras.layers.Layer):
    """Convolves images with a kernel that each call gives; the layer has no weights.

    Args:
        strides: steps of the kernel along height and width, two integers.
        padding: "valid" or "same", as for `keras.layers.Conv2D`.
        dilation_rate: distances between the values of the kernel along height and width.
        groups: number of groups of channels that are convolved separately.
        depthwise: whether every channel is convolved by itself, as in
            `keras.layers.DepthwiseConv2D`.
        activation: a Keras activation or its name; None for none.

    Call arguments:
        inputs: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels / groups, filters); for a depthwise layer
            (kernel height, kernel width, channels, multiplier). A kernel with the batch as an
            additional first axis gives each image its own kernel; all of them then run as one
            grouped convolution.

    Output shape: (batch, new height, new width, filters); for a depthwise layer the filters are
    channels * multiplier.

    Example:
        >>> layer = GeneratedConv2D(padding="same")
        >>> outputs = layer(keras.ops.ones((2, 8, 8, 3)), kernel=keras.ops.ones((3, 3, 3, 5)))
        >>> tuple(outputs.shape)
        (2, 8, 8, 5)

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, equation 13.
    """

    def __init__(
        self,
        strides: Sequence[int] = (1, 1),
        padding: str = "valid",
        dilation_rate: Sequence[int] = (1, 1),
        groups: int = 1,
        depthwise: bool = False,
        activation: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.strides = tuple(strides)
        self.padding = padding
        self.dilation_rate = tuple(dilation_rate)
        self.groups = groups
        self.depthwise = depthwise
        self.activation = keras.activations.get(activation)

    @classmethod
    def like(cls, layer: keras.Layer) -> "GeneratedConv2D":
        """Makes a layer that convolves as another one does, but without a bias.

        Args:
            layer: a `Conv2D` or `DepthwiseConv2D`.
        """
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

    def call(self, inputs: Any, kernel: Any) -> Any:
        inputs, kernel = ops.cast(inputs, self.compute_dtype), ops.cast(kernel, self.compute_dtype)
        options = dict(
            padding=self.padding, dilation_rate=self.dilation_rate, data_format="channels_last"
        )
        if len(kernel.shape) == 5:
            return self.activation(self._kernel_per_image(inputs, kernel, options))
        convolve = ops.depthwise_conv if self.depthwise else ops.conv
        return self.activation(convolve(inputs, kernel, self.strides, **options))

    def _kernel_per_image(self, inputs: Any, kernels: Any, options: dict[str, Any]) -> Any:
        """Convolves each image with its own kernel.

        The images become groups of channels of one image, (1, height, width, batch * channels).
        """
        n = ops.shape(inputs)[0]
        _, height, width, channels = inputs.shape
        rows, columns, reads, filters = kernels.shape[1:]
        images = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (1, height, width, n * channels))
        if self.depthwise:
            kernel = ops.reshape(
                ops.transpose(kernels, (1, 2, 0, 3, 4)), (rows, columns, n * channels, filters)
            )
            outputs = ops.depthwise_conv(images, kernel, self.strides, **options)
            return self._separated(outputs, n, channels * filters)
        kernel = ops.reshape(
            ops.transpose(kernels, (1, 2, 3, 0, 4)), (rows, columns, reads, n * filters)
        )
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras would use XLA, which is slow in the gradient and needs a fixed batch size.
            outputs = tf.nn.conv2d(
                images,
                kernel,
                self.strides,
                "SAME" if self.padding == "same" else "VALID",
                dilations=self.dilation_rate,
                data_format="NHWC",
            )
        else:
            outputs = ops.conv(images, kernel, self.strides, **options)
        return self._separated(outputs, n, filters)

    @staticmethod
    def _separated(outputs: Any, n: Any, filters: int) -> Any:
        """Gives (1, height, width, n * filters) as (n, height, width, filters)."""
        outputs = ops.reshape(outputs, (*outputs.shape[1:3], n, filters))
        return ops.transpose(outputs, (2, 0, 1, 3))

    def get_config(self) -> dict[str, Any]:
        names = ("strides", "padding", "dilation_rate", "groups", "depthwise")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "activation": keras.activations.serialize(self.activation),
        }
