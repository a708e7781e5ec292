"""MobileNetV2: the plain baseline of DMNN-MobileNetV2, and the skeleton that it splits."""

from dataclasses import dataclass

from keras import layers

from keras_dynnets.layers import ChannelSlice
from keras_dynnets.models.residual import IMAGENET_RGB, Block, conv, he_normal, norm, normalise, plain

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


NETWORKS = {"mobilenetv2": MobileNetV2(1.0), "mobilenetv2_140": MobileNetV2(1.4)}


def mobilenet_v2(network, num_classes, input_shape, name=None):
    """A plain MobileNetV2, logits out.

    Args:
        network: "mobilenetv2" or "mobilenetv2_140".
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].
    """
    return plain(NETWORKS[network], num_classes, input_shape, name or network)
