"""MobileNetV2: the plain baseline of DMNN-MobileNetV2, and the skeleton that it splits."""

from dataclasses import dataclass

from keras import layers

from keras_dynnets.layers import ChannelSlice, GroupedConv2D
from keras_dynnets.models.residual import CIFAR_RGB, IMAGENET_RGB, Block, conv, he_normal, norm, normalise, plain

# expansion, channels, blocks, stride of the first block (arXiv 1801.04381, table 2)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@dataclass(frozen=True)
class MobileNetV2:
    """Inverted residuals with linear bottlenecks.

    Attributes:
        width: multiplier of all channels, rounded to multiples of 8.

    Reference: Sandler et al., arXiv 1801.04381.
    """

    width: float = 1.0

    def channels(self, base):
        """`base` channels times the width, to the nearest multiple of 8 that loses at most a tenth."""
        rounded = max(8, int(base * self.width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * base * self.width else rounded

    def stem(self):
        return [
            normalise(IMAGENET_RGB),
            conv(self.channels(32), 3, 2, name="stem_conv"),
            norm("stem_bn"),
            layers.ReLU(6.0, name="stem_relu"),
        ]

    def blocks(self):
        blocks, channels = [], self.channels(32)
        for stage, (expansion, base, depth, first_stride) in enumerate(STAGES):
            out = self.channels(base)
            for i in range(depth):
                name = f"stage{stage + 1}_block{i + 1}"
                stride = first_stride if i == 0 else 1
                identity = stride == 1 and channels == out
                path = self._path(name, channels, channels * expansion, out, stride)
                blocks.append(Block(name, stage, channels, out, stride, identity, None, path))
                channels = out
        return blocks

    @staticmethod
    def _path(name, in_channels, hidden, out, stride):
        def path(parts, index):
            if hidden % parts:
                raise ValueError(
                    f"block {name} has {hidden} hidden channels, which do not split into {parts} sub-blocks"
                )
            prefix = name if parts == 1 else f"{name}_path{index + 1}"
            inner = hidden // parts
            chain = []
            if hidden > in_channels:
                chain = [conv(inner, 1, name=f"{prefix}_expand"), norm(f"{prefix}_expand_bn")]
                chain.append(layers.ReLU(6.0, name=f"{prefix}_expand_relu"))
            elif parts > 1:  # expansion 1: there is nothing to expand, a sub-block takes its part of the input
                chain = [ChannelSlice(index * inner, inner, name=f"{prefix}_slice")]
            depthwise = layers.DepthwiseConv2D(
                3, stride, "same", use_bias=False, depthwise_initializer=he_normal(), name=f"{prefix}_depthwise"
            )
            return [
                *chain,
                depthwise,
                norm(f"{prefix}_depthwise_bn"),
                layers.ReLU(6.0, name=f"{prefix}_depthwise_relu"),
                conv(out, 1, name=f"{prefix}_project"),
                norm(f"{prefix}_project_bn"),
            ]

        return path

    def head(self, num_classes):
        return [
            conv(max(1280, self.channels(1280)), 1, name="head_conv"),
            norm("head_bn"),
            layers.ReLU(6.0, name="head_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dropout(0.2, name="dropout"),
            layers.Dense(num_classes, name="logits", dtype="float32"),
        ]


@dataclass(frozen=True)
class MobileNetV2Cifar(MobileNetV2):
    """MobileNetV2 for 32x32 images, as TissueNet's parameters and FLOPs imply (arXiv 2205.01508, table 3).

    A stem of one 1x1 convolution on the image with a border of one pixel, stride 1 in stage
    6, an expansion in stage 1 too, and biases in all convolutions.

    Attributes:
        stacked: indices of the stages whose expansions are units 2-12, grouped in pairs of
            channels; none in the plain network.
    """

    stacked: tuple = ()

    def stem(self):
        return [
            normalise(CIFAR_RGB),
            layers.ZeroPadding2D(1, name="stem_padding"),
            *_conv_bn(layers.Conv2D(32, 1, name="stem_conv")),
            layers.ReLU(6.0, name="stem_relu"),
        ]

    def blocks(self):
        blocks, channels = [], 32
        for stage, (expansion, out, depth, first_stride) in enumerate(STAGES):
            for i in range(depth):
                name = f"stage{stage + 1}_block{i + 1}"
                stride = first_stride if i == 0 and stage < 5 else 1
                identity = stride == 1 and channels == out
                groups = channels // 2 if stage in self.stacked else 1
                path = self._path(name, channels, channels * expansion, out, stride, groups)
                blocks.append(Block(name, stage, channels, out, stride, identity, None, path))
                channels = out
        return blocks

    @staticmethod
    def _path(name, in_channels, hidden, out, stride, groups):
        def path(parts, index):
            if parts > 1:
                raise ValueError("the CIFAR form of MobileNetV2 has no sub-blocks")
            expand = GroupedConv2D(hidden, 1, groups=groups, kernel_initializer="he_normal", name=f"{name}_expand")
            depthwise = layers.DepthwiseConv2D(
                3, stride, "same", depthwise_initializer="he_normal", name=f"{name}_depthwise"
            )
            project = layers.Conv2D(out, 1, kernel_initializer="he_normal", name=f"{name}_project")
            return [
                *_conv_bn(expand),
                layers.ReLU(6.0, name=f"{name}_expand_relu"),
                *_conv_bn(depthwise),
                layers.ReLU(6.0, name=f"{name}_depthwise_relu"),
                *_conv_bn(project),
            ]

        return path

    def head(self, num_classes):
        return [
            *_conv_bn(layers.Conv2D(1280, 1, kernel_initializer="he_normal", name="head_conv")),
            layers.ReLU(6.0, name="head_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(num_classes, name="logits", dtype="float32"),
        ]


def _conv_bn(convolution):
    return [convolution, norm(f"{convolution.name}_bn")]


NETWORKS = {"mobilenetv2": MobileNetV2(1.0), "mobilenetv2_140": MobileNetV2(1.4)}
PLAIN = {**NETWORKS, "mobilenetv2_cifar": MobileNetV2Cifar()}  # this one does not split into sub-blocks


def mobilenet_v2(network, num_classes, input_shape, name=None):
    """A plain MobileNetV2, logits out.

    Args:
        network: "mobilenetv2", "mobilenetv2_140" or "mobilenetv2_cifar".
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].
    """
    return plain(PLAIN[network], num_classes, input_shape, name or network)
