"""TissueNet: networks whose wide layers are stacks of small independent units."""

import numbers
from dataclasses import dataclass

import numpy as np
from keras import layers

from keras_dynnets.baselines import vgg as plain_vgg
from keras_dynnets.baselines.mlp import MNIST_GRAY
from keras_dynnets.baselines.mobilenet_v2 import MobileNetV2Cifar
from keras_dynnets.baselines.resnet import NETWORKS as RESNETS
from keras_dynnets.baselines.resnet import ResNet
from keras_dynnets.baselines.skeleton import conv, norm, normalise, plain
from keras_dynnets.baselines.vgg import conv_bn_relu, sequential
from keras_dynnets.families.tissue.stacked_units import StackedUnits1D, StackedUnits2D


@dataclass(frozen=True)
class TissueVGG(plain_vgg.VGG):
    """VGG whose stages are one full convolution, then a stack of units 2-c_h-...-2 as deep as the rest.

    Attributes:
        hidden: c_h, hidden width of a unit.
        stacked: indices of the stages that are stacked; the others stay as they are.
    """

    hidden: int
    stacked: tuple

    def stage(self, index):
        if index not in self.stacked:
            return super().stage(index)
        unit = (2, *[self.hidden] * (self.depths[index] - 2), 2)
        name = f"stage{index + 1}"
        return [
            *conv_bn_relu(self.widths[index], f"{name}_conv1"),
            StackedUnits2D(unit, name=f"{name}_units"),
        ]


@dataclass(frozen=True)
class TissueResNet(ResNet):
    """ResNet whose basic blocks start with a stack of units 2-c_h-2 in place of their first convolution.

    The units of a stage's first block are 2-c_h-4, since the channels double, with the stride
    in their second convolution.

    Attributes:
        hidden: c_h. stacked: indices of the stages that are stacked.
        batch_norm: whether batch norm follows the convolutions of the units.
    """

    hidden: int = 6
    stacked: tuple = (0, 1, 2, 3)
    batch_norm: bool = True

    def _path(self, name, width, out, stride):
        if int(name[len("stage")]) - 1 not in self.stacked:
            return super()._path(name, width, out, stride)

        def path(parts, index):
            if parts > 1:
                raise ValueError("a block of stacked units does not split into gated sub-blocks")
            units = (2, self.hidden, 2 * stride)
            return [
                StackedUnits2D(
                    units,
                    strides=(1, stride),
                    use_bias=False,
                    batch_norm=self.batch_norm,
                    name=f"{name}_units",
                ),
                conv(out, 3, name=f"{name}_conv2"),
                norm(f"{name}_bn2"),
            ]

        return path


def _resnet(base, **stacking):
    return TissueResNet(**vars(RESNETS[base]), **stacking)


RESNETS_STACKED = {
    "resnet18": _resnet("resnet18_cifar", hidden=6),
    "resnet18_r": _resnet("resnet18_cifar", hidden=4, stacked=(1, 2), batch_norm=False),
    "resnet34_r": _resnet("resnet34", hidden=8, stacked=(1, 2), batch_norm=False),
}


def tissue_vgg16(num_classes, input_shape, hidden=4, name="tissue_vgg16"):
    """VGG-16 of stacked units, logits out.

    Args:
        num_classes: size of the logits.
        input_shape: (height, width, 3), sides of 32 or more; images in [0, 255].
        hidden: c_h, hidden width of a unit; 4 and 6 in the paper.

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, tables 2 and 3.
    """
    base = vars(plain_vgg.NETWORKS["vgg16_cifar"])
    return sequential(
        TissueVGG(**base, hidden=hidden, stacked=(0, 1, 2, 3, 4)).layers(num_classes),
        input_shape,
        name,
    )


def tissue_vgg19(num_classes, input_shape, hidden=6, keep_ends=False, name="tissue_vgg19"):
    """VGG-19 of stacked units, logits out.

    Args:
        num_classes, input_shape, hidden: as of `tissue_vgg16`; the units of the last three stages are 2-c_h-c_h-2.
        keep_ends: the paper's "r": the first and the last stage stay plain, of three convolutions.

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, table 4.
    """
    base = vars(plain_vgg.NETWORKS["vgg19"])
    if keep_ends:
        base = {**base, "depths": (*base["depths"][:-1], 3)}
    stacked = (1, 2, 3) if keep_ends else (0, 1, 2, 3, 4)
    return sequential(
        TissueVGG(**base, hidden=hidden, stacked=stacked).layers(num_classes), input_shape, name
    )


def tissue_resnet(network, num_classes, input_shape, name=None):
    """A ResNet of stacked units, logits out.

    Args:
        network: "resnet18" (all stages, c_h = 6), "resnet18_r" (stages 2 and 3, c_h = 4, no batch norm
            in the units) or "resnet34_r" (stages 2 and 3, c_h = 8).
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, tables 2-4. Deviation: the paper's
    ResNet-34 takes images of 224 pixels without the stem's strides (113.8 GFLOPs by its table); this
    one has ImageNet's stem.
    """
    return plain(RESNETS_STACKED[network], num_classes, input_shape, name or f"tissue_{network}")


def tissue_mobilenet_v2(num_classes, input_shape, name="tissue_mobilenetv2_r"):
    """MobileNetV2 whose expansions are units 2-12 in all stages but the first and the last, logits out.

    Args:
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, section 4.4.3.
    """
    return plain(MobileNetV2Cifar(stacked=(1, 2, 3, 4, 5)), num_classes, input_shape, name)


def tissue_mlp(num_classes, input_shape, hidden=4, name="tissue_mlp"):
    """Dense units 2-c_h-2 over all pixels and a full layer, logits out.

    Args:
        num_classes: size of the logits.
        input_shape: (height, width, 1), of an even number of pixels; images in [0, 255].
        hidden: c_h, hidden width of a unit.

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, table 1.
    """
    chain = [
        normalise(MNIST_GRAY),
        layers.Flatten(name="flatten"),
        StackedUnits1D((2, hidden, 2), name="units"),
        layers.Dense(num_classes, name="logits", dtype="float32"),
    ]
    return sequential(chain, input_shape, name)


def tissue_lenet5(num_classes, input_shape, hidden=3, unit_seed=0, name="tissue_lenet5"):
    """A small LeNet of units 1-c_h-1, logits out.

    Two stages of 4 and 12 channels, each a full 3x3 convolution, one unit a channel and a
    max-pool; then global average pooling and a full layer. The paper gives no more of its network
    than "similar to LeNet-5", 1.4 to 2.3 k parameters and 0.72 to 1.19 MFLOPs; this one has 1.4 to
    2.0 k and 0.75 to 1.21 MFLOPs.

    Args:
        num_classes: size of the logits.
        input_shape: (height, width, 1); images in [0, 255].
        hidden: c_h, 2 to 4 in the paper; or several, such as (2, 3, 4), for hybrid layers:
            every unit has one of them, drawn at random.
        unit_seed: of that draw.

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, section 4.6.2.
    """
    rng = np.random.default_rng(unit_seed)
    chain = [normalise(MNIST_GRAY)]
    for stage, width in enumerate((4, 12), 1):
        units = (1, hidden, 1)
        if not isinstance(hidden, numbers.Integral):
            if not len(hidden):
                raise ValueError(
                    "hidden is the hidden width of a unit or a list of several, not an empty one"
                )
            # Equal units side by side: which channel has which is of no matter between full layers.
            units = [(1, int(h), 1) for h in sorted(rng.choice(hidden, width))]
        chain += [
            *conv_bn_relu(width, f"stage{stage}_conv"),
            StackedUnits2D(units, name=f"stage{stage}_units"),
            layers.MaxPooling2D(2, name=f"stage{stage}_pool"),
        ]
    head = [
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dense(num_classes, name="logits", dtype="float32"),
    ]
    return sequential([*chain, *head], input_shape, name)
