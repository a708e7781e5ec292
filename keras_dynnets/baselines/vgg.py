"""VGG with batch norm, plain, and as a skeleton whose stages can be replaced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
from keras import layers

from keras_dynnets.baselines.skeleton import CIFAR_RGB, IMAGENET_RGB, apply, norm, normalise


@dataclass(frozen=True)
class VGG:
    """Stages of 3x3 convolutions with bias, batch norm and ReLU, and a max-pool after each stage.

    The forms are those of arXiv 2205.01508 and doi 10.2991/jrnal.k.210521.012. They differ from
    the paper of VGG in the batch norm after every convolution and in the single dense layer.

    Attributes:
        depths: number of convolutions of each stage.
        widths: width of each stage in channels.
        head: what stands before the dense layer: "pool" (global average pooling) or "flatten".
        rgb: mean and standard deviation of each channel of the images, in [0, 255].

    Reference: Simonyan and Zisserman, arXiv 1409.1556.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head: str
    rgb: tuple[tuple[float, ...], tuple[float, ...]]

    def stage(self, index: int) -> list[keras.Layer]:
        """Gives the layers of a stage without its max-pool.

        Args:
            index: index of the stage, from 0.
        """
        chain = []
        for i in range(self.depths[index]):
            chain += conv_bn_relu(self.widths[index], f"stage{index + 1}_conv{i + 1}")
        return chain

    def layers(self, num_classes: int) -> list[keras.Layer]:
        """Gives all layers in order; the last one gives `num_classes` logits."""
        chain = [normalise(self.rgb)]
        for i in range(len(self.depths)):
            chain += [*self.stage(i), layers.MaxPooling2D(2, name=f"stage{i + 1}_pool")]
        pool = layers.GlobalAveragePooling2D if self.head == "pool" else layers.Flatten
        logits = layers.Dense(num_classes, name="logits", dtype="float32")
        return [*chain, pool(name="pool"), logits]


def conv_bn_relu(filters: int, name: str) -> list[keras.Layer]:
    """Makes a 3x3 convolution with bias, a batch norm and a ReLU.

    Args:
        filters: number of output channels.
        name: name of the convolution and prefix of the other names.
    """
    return [
        layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name),
        norm(f"{name}_bn"),
        layers.ReLU(name=f"{name}_relu"),
    ]


NETWORKS = {
    "vgg16_cifar": VGG((3, 3, 3, 3, 3), (64, 128, 256, 512, 512), "pool", CIFAR_RGB),
    "vgg16_cnsn": VGG((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), "pool", CIFAR_RGB),
    "vgg16_cnsn_half": VGG((2, 2, 3, 3, 3), (32, 64, 128, 256, 256), "pool", CIFAR_RGB),
    "vgg19": VGG((3, 3, 4, 4, 4), (64, 128, 256, 512, 512), "flatten", IMAGENET_RGB),
}


def build_vgg(
    network: str, num_classes: int, input_shape: Sequence[int], name: str | None = None
) -> keras.Model:
    """Builds a plain VGG with random weights.

    Args:
        network: "vgg16_cifar" (three convolutions in each stage, arXiv 2205.01508), "vgg16_cnsn"
            (thirteen convolutions, doi 10.2991/jrnal.k.210521.012), "vgg16_cnsn_half" (the same
            with half the width) or "vgg19".
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255], sides of 32 pixels or more.
        name: name of the model; None for `network`.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Example:
        >>> model = build_vgg("vgg16_cifar", num_classes=10, input_shape=(32, 32, 3))

    Reference: Simonyan and Zisserman, arXiv 1409.1556, in the forms that `VGG` describes.
    """
    return sequential(NETWORKS[network].layers(num_classes), input_shape, name or network)


def sequential(chain: Iterable[keras.Layer], input_shape: Sequence[int], name: str) -> keras.Model:
    """Makes a functional model of layers in a row.

    Args:
        chain: the layers in order.
        input_shape: (height, width, channels) of the images.
        name: name of the model.
    """
    images = keras.Input(input_shape, name="images")
    return keras.Model(images, apply(chain, images), name=name)
