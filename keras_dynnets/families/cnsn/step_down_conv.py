"""The convolution by which a detached sub-model reads the image."""

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StepDownConv2D(keras.layers.Conv2D):
    """A convolution that turns an image into a feature map of a given shape (CNSN).

    It is the first layer of a sub-model, in place of the layers that the sub-model leaves out.
    Its windows cover every pixel of the image. No batch norm and no activation follow it.

    Deviation from the paper (section 3), where the stride equals the kernel: the kernel may be
    larger than the stride, so that images are read whose side is no multiple of the map's.

    Args:
        filters: int, number of channels of the feature map.
        kernel_size: int or (height, width), size of a window, at least the stride.
        strides: int or (height, width), distance between windows; None for `kernel_size`.
        **kwargs: arguments of `keras.layers.Conv2D`. `padding` is always "valid".

    Input shape: (batch, height, width, channels).

    Output shape: (batch, new height, new width, filters), where a new side is
    `(side - kernel) // stride + 1`.

    Raises:
        ValueError: the kernel is smaller than the stride, so that windows leave pixels out.

    Example:
        >>> StepDownConv2D.between((32, 32, 3), (4, 4, 256))(keras.ops.ones((1, 32, 32, 3))).shape
        (1, 4, 4, 256)

    Reference: Fuengfusin and Tamukoh, A Sub-Model Detachable Convolutional Neural Network, JRNAL
    8(1), 2021, doi 10.2991/jrnal.k.210521.012, section 2.1.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        **kwargs: Any,
    ):
        strides = kernel_size if strides is None else strides
        super().__init__(filters, kernel_size, strides, **{**kwargs, "padding": "valid"})
        if any(k < s for k, s in zip(self.kernel_size, self.strides, strict=True)):
            raise ValueError(
                f"windows of {self.kernel_size} pixels at strides of {self.strides} leave pixels "
                "out; give a kernel_size that is at least as large as strides"
            )

    @classmethod
    def between(
        cls, image_shape: Sequence[int], shape: Sequence[int], **kwargs: Any
    ) -> "StepDownConv2D":
        """Makes the layer that leads from images of one shape to feature maps of another.

        Windows touch where the image's side is a multiple of the map's, as in the paper.
        Otherwise they overlap, so that they cover the image exactly.

        Args:
            image_shape: (height, width, channels) of the images.
            shape: (height, width, channels) of the feature maps.
            **kwargs: further arguments of the layer, such as `name`.

        Raises:
            ValueError: the map is larger than the image, or a size is open (`None`).
        """
        sides = [*zip(image_shape[:2], shape[:2], strict=True)]
        if any(not a or not b or b > a for a, b in sides):
            raise ValueError(
                "a step-down convolution leads from images to maps as large or smaller, of known "
                f"sizes, not from {tuple(image_shape)} to {tuple(shape)}"
            )
        strides = tuple(a // b for a, b in sides)
        kernel = tuple(a - (b - 1) * s for (a, b), s in zip(sides, strides, strict=True))
        return cls(shape[2], kernel, strides, **kwargs)
