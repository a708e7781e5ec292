"""The structure that plain residual networks and their dynamic forms share.

A residual network is a stem, a list of blocks and a head. A block says which layers its paths and
its shortcut have; the caller of `assemble` decides how they are joined: one path and an addition
in a plain network, gated sub-blocks in a dynamic one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
from keras import layers

from keras_dynnets.layers.batch_normalization import BatchNormalization

# mean and standard deviation of each channel of the images, in [0, 255]
IMAGENET_RGB = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CIFAR_RGB = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))


@dataclass(frozen=True)
class Block:
    """One residual block.

    Attributes:
        name: prefix of the names of its layers.
        stage: index of its stage, from 0.
        in_channels: channels of its input.
        out_channels: channels of its output.
        stride: stride along height and width.
        residual: whether the plain network has a shortcut here.
        activation: "relu" after the addition, or None.
        path: `path(parts, index)` gives the layers of sub-block `index` of `parts`; `path(1, 0)`
            gives those of the plain block.
    """

    name: str
    stage: int
    in_channels: int
    out_channels: int
    stride: int
    residual: bool
    activation: str | None
    path: Callable[[int, int], list[keras.Layer]]

    def shortcut(self) -> list[keras.Layer]:
        """Gives the layers of the shortcut.

        Returns:
            A 1x1 convolution and a batch norm where the block changes the shape; otherwise an
            empty list.
        """
        if self.in_channels == self.out_channels and self.stride == 1:
            return []
        name = f"{self.name}_shortcut"
        return [conv(self.out_channels, 1, self.stride, name=name), norm(f"{name}_bn")]


class ResidualNetwork(Protocol):
    """A residual network as lists of new layers, for `assemble`."""

    def stem(self) -> list[keras.Layer]:
        """Gives the layers before the first block, the normalisation of the images included."""
        ...

    def blocks(self) -> list[Block]:
        """Gives the blocks in order."""
        ...

    def head(self, num_classes: int) -> list[keras.Layer]:
        """Gives the layers after the last block; the last one gives `num_classes` logits."""
        ...


def conv(
    filters: int, kernel_size: int, strides: int = 1, name: str | None = None
) -> layers.Conv2D:
    """Makes a convolution without bias, to be followed by a batch norm.

    Args:
        filters: number of output channels.
        kernel_size: side of the kernel.
        strides: stride along height and width.
        name: name of the layer.
    """
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        "same",
        use_bias=False,
        kernel_initializer=he_normal(),
        name=name,
    )


def norm(name: str | None = None) -> BatchNormalization:
    """Makes a batch norm with the momentum and epsilon of all networks in this package."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def he_normal() -> keras.Initializer:
    """Makes He's normal initializer for the number of outputs, with a normal not truncated."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def normalise(rgb: tuple[Sequence[float], Sequence[float]]) -> layers.Rescaling:
    """Makes a layer that brings images in [0, 255] to zero mean and unit standard deviation.

    Args:
        rgb: the mean of each channel and the standard deviation of each channel.
    """
    mean, deviation = rgb
    scale = [1 / d for d in deviation]
    offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
    layer = layers.Rescaling(scale, offset, name="normalise")
    # Without this, an image of one channel would be accepted and spread over three.
    layer.input_spec = layers.InputSpec(ndim=4, axes={-1: len(mean)})
    return layer


def apply(chain: Iterable[keras.Layer], x: Any) -> Any:
    """Gives the result of a list of layers, called in order, on `x`."""
    for layer in chain:
        x = layer(x)
    return x


def assemble(
    network: ResidualNetwork, images: Any, num_classes: int, branch: Callable[[Block, Any], Any]
) -> Any:
    """Gives the logits of a residual network on `images`.

    Args:
        network: the stem, the blocks and the head.
        images: input tensor, (batch, height, width, 3) in [0, 255].
        num_classes: number of logits.
        branch: `branch(block, x)` gives the output of a block before its activation.

    Returns:
        A tensor (batch, num_classes).
    """
    x = apply(network.stem(), images)
    for block in network.blocks():
        x = branch(block, x)
        if block.activation:
            x = layers.Activation(block.activation, name=f"{block.name}_out")(x)
    return apply(network.head(num_classes), x)


def plain(
    network: ResidualNetwork, num_classes: int, input_shape: Sequence[int], name: str
) -> keras.Model:
    """Makes a residual network as published, with one path in each block.

    Args:
        network: the stem, the blocks and the head.
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).
    """
    images = keras.Input(input_shape, name="images")

    def branch(block: Block, x: Any) -> Any:
        y = apply(block.path(1, 0), x)
        if not block.residual:
            return y
        return layers.Add(name=f"{block.name}_add")([apply(block.shortcut(), x), y])

    return keras.Model(images, assemble(network, images, num_classes, branch), name=name)
