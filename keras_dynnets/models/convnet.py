"""Plain CNNs whose head is a convolution too: the puppets of Puppet-CNN, and its baselines."""

from dataclasses import dataclass

from keras import layers

from keras_dynnets.models.residual import CIFAR_RGB, conv, norm, normalise, plain
from keras_dynnets.models.resnet import NETWORKS as RESNETS
from keras_dynnets.models.resnet import ResNet
from keras_dynnets.models.vgg import sequential


@dataclass(frozen=True)
class ConvNet:
    """Stages of convolutions, each with batch norm and ReLU, a max-pool between stages; the head is a 1x1 convolution
    and global average pooling.

    Attributes:
        depths: convolutions of each stage. widths: their filters, a number or one for each.
        kernels: sides of the kernels of each stage.
    """

    depths: tuple
    widths: tuple
    kernels: tuple = ()

    def layers(self, num_classes):
        """All layers in order."""
        chain = [normalise(CIFAR_RGB)]
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if i:
                chain.append(layers.MaxPooling2D(2, name=f"stage{i}_pool"))
            for j in range(depth):
                name = f"stage{i + 1}_conv{j + 1}"
                filters = width[j] if isinstance(width, tuple) else width
                kernel = self.kernels[i] if self.kernels else 3
                chain += [conv(filters, kernel, name=name), norm(f"{name}_bn"), layers.ReLU(name=f"{name}_relu")]
        return chain + convolutional_head(num_classes)


def convolutional_head(num_classes):
    """Logits by a 1x1 convolution and global average pooling."""
    return [
        layers.Conv2D(num_classes, 1, use_bias=False, name="logits"),
        layers.GlobalAveragePooling2D(name="pool", dtype="float32"),
    ]


class ConvHeadResNet(ResNet):
    """ResNet with the same head."""

    def head(self, num_classes):
        return convolutional_head(num_classes)


WIDTHS = {"convnet": (64, 128, 256, 512), "convnet_128": (32, 64, 128)}
NETWORKS = {
    "alexnet_conv": ConvNet((1, 1, 3), (64, 192, (384, 256, 256)), (5, 5, 3)),
    "vgg16_conv": ConvNet((2, 2, 3, 3, 3), (64, 128, 256, 512, 512)),
    "resnet18_conv": ConvHeadResNet(**vars(RESNETS["resnet18_cifar"])),
}


def convnet(network, num_classes, input_shape, layers_per_width=None, name=None):
    """A plain CNN with a convolutional head, logits out.

    Args:
        network: "convnet" (widths 64, 128, 256, 512), "convnet_128" (32, 64, 128); or, with layers of
            their own, "alexnet_conv", "vgg16_conv", "resnet18_conv".
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].
        layers_per_width: convolutions of each stage of the first two; default 2.

    Raises:
        ValueError: `layers_per_width` below 1, or of a network with layers of its own.

    Reference: Ma et al., Puppet-CNN, arXiv 2411.12876, section 4. AlexNet in a form for images of 32 pixels (ours).
    """
    name = name or network
    if network in WIDTHS:
        widths = WIDTHS[network]
        if layers_per_width is not None and layers_per_width < 1:
            raise ValueError(f"layers_per_width is 1 or more, not {layers_per_width}")
        depths = (layers_per_width or 2,) * len(widths)
        return sequential(ConvNet(depths, widths).layers(num_classes), input_shape, name)
    if layers_per_width is not None:
        raise ValueError(f"{network} has layers of its own; layers_per_width is for {', '.join(WIDTHS)}")
    if isinstance(NETWORKS[network], ResNet):
        return plain(NETWORKS[network], num_classes, input_shape, name)
    return sequential(NETWORKS[network].layers(num_classes), input_shape, name)
