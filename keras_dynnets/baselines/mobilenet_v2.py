"""MobileNetV2, plain, and as a skeleton whose blocks split into sub-blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import keras
from keras import layers

from keras_dynnets.baselines.skeleton import (
    CIFAR_RGB,
    IMAGENET_RGB,
    Block,
    ResidualNetwork,
    conv,
    he_normal,
    norm,
    normalise,
    plain,
)
from keras_dynnets.layers.channel_slice import ChannelSlice
from keras_dynnets.layers.grouped_conv import GroupedConv2D

# expansion, channels, blocks and stride of the first block (arXiv 1801.04381, table 2)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclass(frozen=True)
class MobileNetV2(ResidualNetwork):
    """Inverted residuals with linear bottlenecks.

    Attributes:
        width: multiplier of all channels, which are then rounded to multiples of 8.

    Reference: Sandler et al., arXiv 1801.04381.
    """

    width: float = 1.0
    stages: ClassVar[tuple[tuple[int, int, int, int], ...]] = STAGES

    def channels(self, base: int) -> int:
        """Gives `base` channels times the width, rounded to a multiple of 8.

        Rounding takes away at most a tenth of the channels.

        Args:
            base: channels at width 1.
        """
        rounded = max(8, int(base * self.width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * base * self.width else rounded

    def stem(self) -> list[keras.Layer]:
        return [
            normalise(IMAGENET_RGB),
            conv(self.channels(32), 3, 2, name="stem_conv"),
            norm("stem_bn"),
            layers.ReLU(6.0, name="stem_relu"),
        ]

    def blocks(self) -> list[Block]:
        blocks, channels = [], self.channels(32)
        for stage, (expansion, base, depth, first_stride) in enumerate(self.stages):
            out = self.channels(base)
            for i in range(depth):
                name = f"stage{stage + 1}_block{i + 1}"
                stride = first_stride if i == 0 else 1
                identity = stride == 1 and channels == out
                path = self._path(name, stage, channels, channels * expansion, out, stride)
                blocks.append(Block(name, stage, channels, out, stride, identity, None, path))
                channels = out
        return blocks

    def _path(
        self, name: str, stage: int, in_channels: int, hidden: int, out: int, stride: int
    ) -> Callable[[int, int], list[keras.Layer]]:
        def path(parts: int, index: int) -> list[keras.Layer]:
            if hidden % parts:
                raise ValueError(
                    f"block {name} has {hidden} hidden channels, which do not split into {parts} "
                    "sub-blocks; give a number of sub-blocks that divides them"
                )
            prefix = name if parts == 1 else f"{name}_path{index + 1}"
            inner = hidden // parts
            chain = []
            if hidden > in_channels:
                chain = [conv(inner, 1, name=f"{prefix}_expand"), norm(f"{prefix}_expand_bn")]
                chain.append(layers.ReLU(6.0, name=f"{prefix}_expand_relu"))
            elif parts > 1:  # without an expansion, each sub-block takes its part of the input
                chain = [ChannelSlice(index * inner, inner, name=f"{prefix}_slice")]
            depthwise = layers.DepthwiseConv2D(
                3,
                stride,
                "same",
                use_bias=False,
                depthwise_initializer=he_normal(),
                name=f"{prefix}_depthwise",
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

    def head(self, num_classes: int) -> list[keras.Layer]:
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
    """MobileNetV2 for 32x32 images, as the parameters and FLOPs of arXiv 2205.01508 imply.

    It differs from MobileNetV2 in a stem of one 1x1 convolution on the image with a border of one
    pixel, in a 1x1 convolution before the depthwise one in stage 1 too, in stride 1 in stage 6,
    and in biases in all convolutions. It does not split into sub-blocks.

    Attributes:
        stacked: indices of the stages whose expansions are grouped convolutions with 2 input and
            12 output channels in each group; empty for the plain network.

    Reference: Lan et al., arXiv 2205.01508, table 3.
    """

    stacked: tuple[int, ...] = ()
    stages: ClassVar = (*STAGES[:5], (6, 160, 3, 1), STAGES[6])

    def stem(self) -> list[keras.Layer]:
        return [
            normalise(CIFAR_RGB),
            layers.ZeroPadding2D(1, name="stem_padding"),
            *_conv_bn(layers.Conv2D(32, 1, name="stem_conv")),
            layers.ReLU(6.0, name="stem_relu"),
        ]

    def _path(
        self, name: str, stage: int, in_channels: int, hidden: int, out: int, stride: int
    ) -> Callable[[int, int], list[keras.Layer]]:
        groups = in_channels // 2 if stage in self.stacked else 1

        def path(parts: int, index: int) -> list[keras.Layer]:
            if parts > 1:
                raise ValueError(
                    f"the form of MobileNetV2 for CIFAR does not split into {parts} sub-blocks; "
                    f"take one of {', '.join(NETWORKS)}"
                )
            initializer = "he_normal"
            expand = GroupedConv2D(
                hidden, 1, groups=groups, kernel_initializer=initializer, name=f"{name}_expand"
            )
            depthwise = layers.DepthwiseConv2D(
                3, stride, "same", depthwise_initializer=initializer, name=f"{name}_depthwise"
            )
            project = layers.Conv2D(out, 1, kernel_initializer=initializer, name=f"{name}_project")
            return [
                *_conv_bn(expand),
                layers.ReLU(6.0, name=f"{name}_expand_relu"),
                *_conv_bn(depthwise),
                layers.ReLU(6.0, name=f"{name}_depthwise_relu"),
                *_conv_bn(project),
            ]

        return path

    def head(self, num_classes: int) -> list[keras.Layer]:
        return [
            *_conv_bn(layers.Conv2D(1280, 1, kernel_initializer="he_normal", name="head_conv")),
            layers.ReLU(6.0, name="head_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(num_classes, name="logits", dtype="float32"),
        ]


def _conv_bn(convolution: keras.Layer) -> list[keras.Layer]:
    """Gives a convolution and a batch norm named after it."""
    return [convolution, norm(f"{convolution.name}_bn")]


NETWORKS = {"mobilenetv2": MobileNetV2(1.0), "mobilenetv2_140": MobileNetV2(1.4)}
PLAIN = {**NETWORKS, "mobilenetv2_cifar": MobileNetV2Cifar()}  # the last one has no sub-blocks


def build_mobilenet_v2(
    network: str, num_classes: int, input_shape: Sequence[int], name: str | None = None
) -> keras.Model:
    """Builds a plain MobileNetV2 with random weights.

    Args:
        network: "mobilenetv2", "mobilenetv2_140" (1.4 times as wide) or "mobilenetv2_cifar" (for
            32x32 images).
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        name: name of the model; None for `network`.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Example:
        >>> model = build_mobilenet_v2("mobilenetv2", num_classes=1000, input_shape=(224, 224, 3))

    Reference: Sandler et al., arXiv 1801.04381; "mobilenetv2_cifar" as `MobileNetV2Cifar`
    describes it.
    """
    return plain(PLAIN[network], num_classes, input_shape, name or network)
