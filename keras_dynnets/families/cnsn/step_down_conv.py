"""CNSN's entrance to the middle of a network: an image to the shape of a feature map."""

import keras


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StepDownConv2D(keras.layers.Conv2D):
    """A convolution that takes the place of a network's removed head (CNSN).

    Its windows cover every pixel of the image, so that the layers behind it get a feature map of the
    size that they know. No batch norm and no activation follow.

    Args:
        filters: channels of the feature map.
        kernel_size: side of a window, an integer or a pair; at least the stride, or pixels would be left out.
        strides: between windows; default: the kernel's size.
        **kwargs: the others of `keras.layers.Conv2D`, but padding, which is "valid".

    Input shape: (batch, height, width, channels).

    Output shape: (batch, (height - kernel) / stride + 1, (width - kernel) / stride + 1, filters).

    Raises:
        ValueError: windows that leave out pixels.

    Example:
        >>> StepDownConv2D.between((32, 32, 3), (4, 4, 256))(keras.ops.ones((1, 32, 32, 3))).shape
        (1, 4, 4, 256)

    Reference: Fuengfusin and Tamukoh, A Sub-Model Detachable Convolutional Neural Network, JRNAL 8(1), 2021,
    doi 10.2991/jrnal.k.210521.012, section 2.1.
    """

    def __init__(self, filters, kernel_size, strides=None, **kwargs):
        super().__init__(
            filters,
            kernel_size,
            kernel_size if strides is None else strides,
            **{**kwargs, "padding": "valid"},
        )
        if any(k < s for k, s in zip(self.kernel_size, self.strides, strict=True)):
            raise ValueError(
                f"windows of {self.kernel_size} pixels at strides of {self.strides} leave pixels out; "
                "the kernel is at least as large as the stride"
            )

    @classmethod
    def between(cls, image_shape, shape, **kwargs):
        """The layer that leads from images to feature maps of a shape, both (height, width, channels).

        Windows touch where the image's side is a multiple of the map's, as in the paper; otherwise they
        overlap by what is left over (ours).

        Raises:
            ValueError: the map is larger than the image, or a size is open.
        """
        sides = [*zip(image_shape[:2], shape[:2], strict=True)]
        if any(not a or not b or b > a for a, b in sides):
            raise ValueError(
                f"a step-down convolution leads from images to maps as large or smaller, of known sizes, "
                f"not from {tuple(image_shape)} to {tuple(shape)}"
            )
        strides = tuple(a // b for a, b in sides)
        kernel = tuple(a - (b - 1) * s for (a, b), s in zip(sides, strides, strict=True))
        return cls(shape[2], kernel, strides, **kwargs)
