"""The skeleton that plain residual networks and their dynamic forms share.

A residual network is a stem, a list of blocks and a head. A block says what
its paths and its shortcut are made of; what happens between them (one path and
an addition, or gated sub-blocks) is the caller's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from keras_dynnets.layers import BatchNormalization

IMAGENET_RGB = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CIFAR_RGB = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))


@dataclass(frozen=True)
class Block:
    """One residual block.

    Attributes:
        name: prefix of its layers' names.
        stage: index of its stage, from 0.
        in_channels, out_channels, stride: what it does to its input's shape.
        residual: whether the plain network has a shortcut here.
        activation: "relu" after the addition, or None.
        path: `path(parts, index)` gives the layers of sub-block `index` of `parts`;
            `path(1, 0)` those of the plain block.
    """

    name: str
    stage: int
    in_channels: int
    out_channels: int
    stride: int
    residual: bool
    activation: str | None
    path: Callable[[int, int], list]

    def shortcut(self):
        """Layers of the shortcut: none, or a 1x1 convolution where the shape changes."""
        if self.in_channels == self.out_channels and self.stride == 1:
            return []
        return [conv(self.out_channels, 1, self.stride, name=f"{self.name}_shortcut"), norm(f"{self.name}_shortcut_bn")]


def conv(filters, kernel_size, strides=1, name=None):
    """A convolution without bias, for a batch norm to follow."""
    return layers.Conv2D(
        filters, kernel_size, strides, "same", use_bias=False, kernel_initializer=he_normal(), name=name
    )


def norm(name=None):
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def he_normal():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def normalise(rgb):
    """Images in [0, 255] to zero mean and unit deviation; `rgb` is (mean, deviation) of each channel."""
    mean, deviation = rgb
    layer = layers.Rescaling(
        [1 / d for d in deviation], [-m / d for m, d in zip(mean, deviation, strict=True)], name="normalise"
    )
    layer.input_spec = layers.InputSpec(ndim=4, axes={-1: len(mean)})  # or one channel would pass, spread over three
    return layer


def apply(chain, x):
    """`x` through a list of layers."""
    for layer in chain:
        x = layer(x)
    return x


def assemble(network, images, num_classes, branch):
    """Logits of a residual network on `images`.

    Args:
        network: an object with `stem()` and `head(num_classes)`, lists of layers,
            and `blocks()`, a list of `Block`.
        images: the input tensor, (batch, height, width, 3) in [0, 255].
        num_classes: size of the logits.
        branch: `branch(block, x)` gives the block's output before its activation.
    """
    x = apply(network.stem(), images)
    for block in network.blocks():
        x = branch(block, x)
        if block.activation:
            x = layers.Activation(block.activation, name=f"{block.name}_out")(x)
    return apply(network.head(num_classes), x)


def plain(network, num_classes, input_shape, name):
    """The network as published: one path a block."""
    images = keras.Input(input_shape, name="images")

    def branch(block, x):
        y = apply(block.path(1, 0), x)
        return layers.Add(name=f"{block.name}_add")([apply(block.shortcut(), x), y]) if block.residual else y

    return keras.Model(images, assemble(network, images, num_classes, branch), name=name)
