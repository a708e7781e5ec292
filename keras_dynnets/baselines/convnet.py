"""Plain CNNs whose head is a convolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers

from keras_dynnets.baselines.resnet import NETWORKS as RESNETS
from keras_dynnets.baselines.resnet import ResNet
from keras_dynnets.baselines.skeleton import CIFAR_RGB, conv, norm, normalise, plain
from keras_dynnets.baselines.vgg import sequential


@dataclass(frozen=True)
class ConvNet:
    """Stages of convolutions with batch norm and ReLU, and a max-pool between two stages.

    The head is a 1x1 convolution and global average pooling.

    Attributes:
        depths: number of convolutions of each stage.
        widths: filters of the convolutions of each stage, one number for all or a tuple with one
            number for each.
        kernels: side of the kernels of each stage; empty for 3 everywhere.
    """

    depths: tuple[int, ...]
    widths: tuple[int | tuple[int, ...], ...]
    kernels: tuple[int, ...] = ()

    def layers(self, num_classes: int) -> list[keras.Layer]:
        """Gives all layers in order; the last one gives `num_classes` logits."""
        chain = [normalise(CIFAR_RGB)]
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if i:
                chain.append(layers.MaxPooling2D(2, name=f"stage{i}_pool"))
            for j in range(depth):
                name = f"stage{i + 1}_conv{j + 1}"
                filters = width[j] if isinstance(width, tuple) else width
                kernel = self.kernels[i] if self.kernels else 3
                chain.append(conv(filters, kernel, name=name))
                chain += [norm(f"{name}_bn"), layers.ReLU(name=f"{name}_relu")]
        return chain + convolutional_head(num_classes)


def convolutional_head(num_classes: int) -> list[keras.Layer]:
    """Makes a head of a 1x1 convolution and global average pooling that gives logits."""
    return [
        layers.Conv2D(num_classes, 1, use_bias=False, name="logits"),
        layers.GlobalAveragePooling2D(name="pool", dtype="float32"),
    ]


class ConvHeadResNet(ResNet):
    """A ResNet whose head is a 1x1 convolution and global average pooling."""

    def head(self, num_classes: int) -> list[keras.Layer]:
        return convolutional_head(num_classes)


WIDTHS = {"convnet": (64, 128, 256, 512), "convnet_128": (32, 64, 128)}
NETWORKS = {
    "alexnet_conv": ConvNet((1, 1, 3), (64, 192, (384, 256, 256)), (5, 5, 3)),
    "vgg16_conv": ConvNet((2, 2, 3, 3, 3), (64, 128, 256, 512, 512)),
    "resnet18_conv": ConvHeadResNet(**vars(RESNETS["resnet18_cifar"])),
}


def build_convnet(
    network: str,
    num_classes: int,
    input_shape: Sequence[int],
    layers_per_width: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds a plain CNN with a convolutional head and random weights.

    Args:
        network: "convnet" (widths 64, 128, 256, 512) or "convnet_128" (widths 32, 64, 128), whose
            depth can be chosen; or "alexnet_conv", "vgg16_conv" or "resnet18_conv", whose depth
            is fixed.
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        layers_per_width: number of convolutions of each stage, for networks whose depth can be
            chosen; None for 2.
        name: name of the model; None for `network`.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Raises:
        ValueError: `layers_per_width` is below 1, or is given for a network of fixed depth.

    Example:
        >>> model = build_convnet("convnet", 10, (32, 32, 3), layers_per_width=3)

    Reference: Xing and Wang, arXiv 2411.12876, section 4. The form of AlexNet for images of 32
    pixels is not in the paper.
    """
    name = name or network
    if network in WIDTHS:
        widths = WIDTHS[network]
        if layers_per_width is not None and layers_per_width < 1:
            raise ValueError(f"layers_per_width is 1 or more, not {layers_per_width}")
        depths = (layers_per_width or 2,) * len(widths)
        return sequential(ConvNet(depths, widths).layers(num_classes), input_shape, name)
    if layers_per_width is not None:
        raise ValueError(
            f"{network} has a fixed depth and takes no layers_per_width; leave it out, or take "
            f"{' or '.join(WIDTHS)}"
        )
    chosen = NETWORKS[network]
    if isinstance(chosen, ResNet):
        return plain(chosen, num_classes, input_shape, name)
    return sequential(chosen.layers(num_classes), input_shape, name)
