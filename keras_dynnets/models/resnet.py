"""ResNet: the plain baseline of DMNN, and the skeleton that DMNN splits."""

from dataclasses import dataclass
from math import floor

from keras import layers

from keras_dynnets.models.residual import CIFAR_RGB, IMAGENET_RGB, Block, conv, norm, normalise, plain

# Width of a sub-block in parts of the plain bottleneck's, for equal parameters of the whole
# block (derived from the parameter counts of arXiv 1902.10949, table 1).
BOTTLENECK_SHARE = {1: 1.0, 2: 0.6, 3: 0.467, 4: 0.375}


@dataclass(frozen=True)
class ResNet:
    """ResNet with the stride in the 3x3 convolution (v1.5).

    Attributes:
        kind: "basic" (3x3, 3x3) or "bottleneck" (1x1, 3x3, 1x1; output four times the width).
        depths: blocks of each stage.
        widths: width of each stage.
        stem_kernel, stem_stride, stem_pool: the first convolution, and whether a
            stride-2 max-pool follows it.
        rgb: mean and deviation of the images' channels, in [0, 255].

    Reference: He et al., Deep Residual Learning, arXiv 1512.03385. Deviations:
    "same" padding as Keras defines it; in the CIFAR forms a projection (1x1
    convolution and batch norm) where the shape changes, and for the bottleneck form
    a max-pool after the stem, so that its first stage is 16x16, as DMNN's 0.33 G MACs imply.
    """

    kind: str
    depths: tuple
    widths: tuple
    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    rgb: tuple

    def stem(self):
        chain = [
            normalise(self.rgb),
            conv(self.widths[0], self.stem_kernel, self.stem_stride, name="stem_conv"),
            norm("stem_bn"),
            layers.ReLU(name="stem_relu"),
        ]
        return [*chain, layers.MaxPooling2D(3, 2, "same", name="stem_pool")] if self.stem_pool else chain

    def blocks(self):
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

    def _path(self, name, width, out, stride):
        def path(parts, index):
            inner = self._sub_block_width(width, parts)
            prefix = name if parts == 1 else f"{name}_path{index + 1}"
            shapes = [(inner, 3, stride), (out, 3, 1)]
            if self.kind == "bottleneck":
                shapes = [(inner, 1, 1), (inner, 3, stride), (out, 1, 1)]
            chain = []
            for i, (filters, kernel, strides) in enumerate(shapes, 1):
                chain += [conv(filters, kernel, strides, f"{prefix}_conv{i}"), norm(f"{prefix}_bn{i}")]
                if i < len(shapes):
                    chain.append(layers.ReLU(name=f"{prefix}_relu{i}"))
            return chain

        return path

    def _sub_block_width(self, width, parts):
        if self.kind == "bottleneck":
            if parts not in BOTTLENECK_SHARE:
                raise ValueError(f"a bottleneck block splits into {sorted(BOTTLENECK_SHARE)} sub-blocks, not {parts}")
            return floor(BOTTLENECK_SHARE[parts] * width)
        if width % parts:
            raise ValueError(f"a block of width {width} does not split into {parts} equal sub-blocks")
        return width // parts

    def head(self, num_classes):
        return [layers.GlobalAveragePooling2D(name="pool"), layers.Dense(num_classes, name="logits", dtype="float32")]


_IMAGENET = dict(
    kind="bottleneck", widths=(64, 128, 256, 512), stem_kernel=7, stem_stride=2, stem_pool=True, rgb=IMAGENET_RGB
)
NETWORKS = {
    "resnet20": ResNet("basic", (3, 3, 3), (16, 32, 64), 3, 1, False, CIFAR_RGB),
    "resnet18_cifar": ResNet("basic", (2, 2, 2, 2), (64, 128, 256, 512), 3, 1, False, CIFAR_RGB),
    "resnet34": ResNet("basic", (3, 4, 6, 3), (64, 128, 256, 512), 7, 2, True, IMAGENET_RGB),
    "resnet50_cifar": ResNet("bottleneck", (3, 4, 6, 3), (64, 128, 256, 512), 3, 1, True, CIFAR_RGB),
    "resnet50": ResNet(depths=(3, 4, 6, 3), **_IMAGENET),
    "resnet101": ResNet(depths=(3, 4, 23, 3), **_IMAGENET),
}


def resnet(network, num_classes, input_shape, name=None):
    """A plain ResNet, logits out.

    Args:
        network: "resnet20" (basic blocks of widths 16, 32, 64), "resnet18_cifar", "resnet34",
            "resnet50_cifar", "resnet50" or "resnet101".
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].
    """
    return plain(NETWORKS[network], num_classes, input_shape, name or network)
