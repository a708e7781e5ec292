"""ResNet, plain, and as a skeleton whose blocks split into sub-blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor

import keras
from keras import layers

from keras_dynnets.baselines.skeleton import (
    CIFAR_RGB,
    IMAGENET_RGB,
    Block,
    ResidualNetwork,
    conv,
    norm,
    normalise,
    plain,
)

# Width of a sub-block as a share of the width of the plain bottleneck, by the number of
# sub-blocks, so that the parameters of the whole block stay about equal (derived from the
# parameter counts of arXiv 1902.10949, table 1).
BOTTLENECK_SHARE = {1: 1.0, 2: 0.6, 3: 0.467, 4: 0.375}


@dataclass(frozen=True)
class ResNet(ResidualNetwork):
    """ResNet with the stride in the 3x3 convolution (version 1.5).

    Deviations from the paper: "same" padding is that of Keras. In the forms for CIFAR a
    projection (1x1 convolution and batch norm) stands where the shape changes. The bottleneck
    form for CIFAR has a max-pool after the stem, so that its first stage is 16x16, as the 0.33 G
    MACs in arXiv 1902.10949 imply.

    Attributes:
        kind: "basic" (3x3, 3x3) or "bottleneck" (1x1, 3x3, 1x1; output of four times the width).
        depths: number of blocks of each stage.
        widths: width of each stage in channels.
        stem_kernel: side of the kernel of the first convolution.
        stem_stride: stride of the first convolution.
        stem_pool: whether a max-pool with stride 2 follows the first convolution.
        rgb: mean and standard deviation of each channel of the images, in [0, 255].

    Reference: He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """

    kind: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    rgb: tuple[tuple[float, ...], tuple[float, ...]]

    def stem(self) -> list[keras.Layer]:
        chain = [
            normalise(self.rgb),
            conv(self.widths[0], self.stem_kernel, self.stem_stride, name="stem_conv"),
            norm("stem_bn"),
            layers.ReLU(name="stem_relu"),
        ]
        if self.stem_pool:
            chain.append(layers.MaxPooling2D(3, 2, "same", name="stem_pool"))
        return chain

    def blocks(self) -> list[Block]:
        blocks, channels = [], self.widths[0]
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            out = width * (4 if self.kind == "bottleneck" else 1)
            for i in range(depth):
                name = f"stage{stage + 1}_block{i + 1}"
                stride = 2 if stage > 0 and i == 0 else 1
                path = self._path(name, width, out, stride)
                blocks.append(Block(name, stage, channels, out, stride, True, "relu", path))
                channels = out
        return blocks

    def _path(
        self, name: str, width: int, out: int, stride: int
    ) -> Callable[[int, int], list[keras.Layer]]:
        def path(parts: int, index: int) -> list[keras.Layer]:
            inner = self._sub_block_width(width, parts)
            prefix = name if parts == 1 else f"{name}_path{index + 1}"
            shapes = [(inner, 3, stride), (out, 3, 1)]
            if self.kind == "bottleneck":
                shapes = [(inner, 1, 1), (inner, 3, stride), (out, 1, 1)]
            chain = []
            for i, (filters, kernel, strides) in enumerate(shapes, 1):
                chain.append(conv(filters, kernel, strides, f"{prefix}_conv{i}"))
                chain.append(norm(f"{prefix}_bn{i}"))
                if i < len(shapes):
                    chain.append(layers.ReLU(name=f"{prefix}_relu{i}"))
            return chain

        return path

    def _sub_block_width(self, width: int, parts: int) -> int:
        if self.kind == "bottleneck":
            if parts not in BOTTLENECK_SHARE:
                raise ValueError(
                    f"a bottleneck block splits into {sorted(BOTTLENECK_SHARE)} sub-blocks, "
                    f"not {parts}"
                )
            return floor(BOTTLENECK_SHARE[parts] * width)
        if width % parts:
            raise ValueError(
                f"a block of width {width} does not split into {parts} equal sub-blocks; "
                "give a number of sub-blocks that divides the width"
            )
        return width // parts

    def head(self, num_classes: int) -> list[keras.Layer]:
        return [
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(num_classes, name="logits", dtype="float32"),
        ]


_WIDTHS = (64, 128, 256, 512)
NETWORKS = {
    "resnet20": ResNet("basic", (3, 3, 3), (16, 32, 64), 3, 1, False, CIFAR_RGB),
    "resnet18_cifar": ResNet("basic", (2, 2, 2, 2), _WIDTHS, 3, 1, False, CIFAR_RGB),
    "resnet34": ResNet("basic", (3, 4, 6, 3), _WIDTHS, 7, 2, True, IMAGENET_RGB),
    "resnet50_cifar": ResNet("bottleneck", (3, 4, 6, 3), _WIDTHS, 3, 1, True, CIFAR_RGB),
    "resnet50": ResNet("bottleneck", (3, 4, 6, 3), _WIDTHS, 7, 2, True, IMAGENET_RGB),
    "resnet101": ResNet("bottleneck", (3, 4, 23, 3), _WIDTHS, 7, 2, True, IMAGENET_RGB),
}


def build_resnet(
    network: str, num_classes: int, input_shape: Sequence[int], name: str | None = None
) -> keras.Model:
    """Builds a plain ResNet with random weights.

    Args:
        network: "resnet20" (basic blocks of widths 16, 32, 64), "resnet18_cifar", "resnet34",
            "resnet50_cifar", "resnet50" or "resnet101".
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        name: name of the model; None for `network`.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Example:
        >>> model = build_resnet("resnet20", num_classes=10, input_shape=(32, 32, 3))

    Reference: He et al., arXiv 1512.03385, in the forms that `ResNet` describes.
    """
    return plain(NETWORKS[network], num_classes, input_shape, name or network)
