"""VGG with batch norm: the plain baseline of TissueNet's VGG, and the skeleton whose stages it stacks."""

from dataclasses import dataclass

import keras
from keras import layers

from keras_dynnets.layers import BatchNormalization
from keras_dynnets.models.residual import CIFAR_RGB, IMAGENET_RGB, apply, normalise


@dataclass(frozen=True)
class VGG:
    """Stages of 3x3 convolutions, each with a bias, batch norm and ReLU, a max-pool after every stage.

    Attributes:
        depths: convolutions of each stage.
        widths: width of each stage.
        head: "pool" (global average) or "flatten", before the one dense layer.
        rgb: mean and deviation of the images' channels, in [0, 255].

    Reference: Simonyan and Zisserman, arXiv 1409.1556, in the forms of TissueNet
    (arXiv 2205.01508) and CNSN (doi 10.2991/jrnal.k.210521.012): batch norm everywhere, one dense layer.
    """

    depths: tuple
    widths: tuple
    head: str
    rgb: tuple

    def stage(self, index):
        """The layers of a stage, without its pooling."""
        depth, width = self.depths[index], self.widths[index]
        return [layer for i in range(depth) for layer in conv_bn_relu(width, f"stage{index + 1}_conv{i + 1}")]

    def layers(self, num_classes):
        """All layers in order."""
        chain = [normalise(self.rgb)]
        for i in range(len(self.depths)):
            chain += [*self.stage(i), layers.MaxPooling2D(2, name=f"stage{i + 1}_pool")]
        pool = layers.GlobalAveragePooling2D if self.head == "pool" else layers.Flatten
        return [*chain, pool(name="pool"), layers.Dense(num_classes, name="logits", dtype="float32")]


def conv_bn_relu(filters, name):
    """A 3x3 convolution with bias, batch norm and ReLU."""
    return [
        layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name),
        BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn"),
        layers.ReLU(name=f"{name}_relu"),
    ]


NETWORKS = {
    "vgg16_cifar": VGG((3, 3, 3, 3, 3), (64, 128, 256, 512, 512), "pool", CIFAR_RGB),
    "vgg16_cnsn": VGG((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), "pool", CIFAR_RGB),
    "vgg16_cnsn_half": VGG((2, 2, 3, 3, 3), (32, 64, 128, 256, 256), "pool", CIFAR_RGB),
    "vgg19": VGG((3, 3, 4, 4, 4), (64, 128, 256, 512, 512), "flatten", IMAGENET_RGB),
}


def vgg(network, num_classes, input_shape, name=None):
    """A plain VGG, logits out.

    Args:
        network: "vgg16_cifar" (TissueNet's: three convolutions a stage), "vgg16_cnsn" (CNSN's: thirteen convolutions),
            "vgg16_cnsn_half" (the same, half as wide) or "vgg19".
        num_classes: size of the logits.
        input_shape: (height, width, 3), sides of 32 or more; images in [0, 255].
    """
    return sequential(NETWORKS[network].layers(num_classes), input_shape, name or network)


def sequential(chain, input_shape, name):
    """A functional model of layers in a row."""
    images = keras.Input(input_shape, name="images")
    return keras.Model(images, apply(chain, images), name=name)
