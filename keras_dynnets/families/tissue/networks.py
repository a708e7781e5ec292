"""TissueNet: networks whose wide layers are stacks of small independent units."""

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
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
    """VGG with stacked stages.

    A stacked stage is one full convolution and a stack of units 2-c_h-...-2 that is as deep as
    the rest of the plain stage.

    Attributes:
        hidden: c_h, hidden width of a unit.
        stacked: indices of the stages that are stacked; the others are plain.
    """

    hidden: int
    stacked: tuple[int, ...]

    def stage(self, index: int) -> list[keras.Layer]:
        if index not in self.stacked:
            return super().stage(index)
        unit = (2, *[self.hidden] * (self.depths[index] - 2), 2)
        name = f"stage{index + 1}"
        units = StackedUnits2D(unit, name=f"{name}_units")
        return [*conv_bn_relu(self.widths[index], f"{name}_conv1"), units]


@dataclass(frozen=True)
class TissueResNet(ResNet):
    """ResNet whose basic blocks start with a stack of units 2-c_h-2.

    The stack stands in place of the first convolution. In the first block of a stage the channels
    double, so that its units are 2-c_h-4; their second convolution has the stride.

    Attributes:
        hidden: c_h, hidden width of a unit.
        stacked: indices of the stages that are stacked; the others are plain.
        batch_norm: whether a batch norm follows each convolution of the units.
    """

    hidden: int = 6
    stacked: tuple[int, ...] = (0, 1, 2, 3)
    batch_norm: bool = True

    def _path(
        self, name: str, width: int, out: int, stride: int
    ) -> Callable[[int, int], list[keras.Layer]]:
        stage = int(name.removeprefix("stage").partition("_")[0]) - 1
        if stage not in self.stacked:
            return super()._path(name, width, out, stride)

        def path(parts: int, index: int) -> list[keras.Layer]:
            if parts > 1:
                raise ValueError("a block of stacked units does not split into gated sub-blocks")
            units = StackedUnits2D(
                (2, self.hidden, 2 * stride),
                strides=(1, stride),
                use_bias=False,
                batch_norm=self.batch_norm,
                name=f"{name}_units",
            )
            return [units, conv(out, 3, name=f"{name}_conv2"), norm(f"{name}_bn2")]

        return path


def _resnet(base: str, **stacking: Any) -> TissueResNet:
    """Makes the stacked form of a plain ResNet."""
    return TissueResNet(**vars(RESNETS[base]), **stacking)


RESNETS_STACKED = {
    "resnet18": _resnet("resnet18_cifar", hidden=6),
    "resnet18_r": _resnet("resnet18_cifar", hidden=4, stacked=(1, 2), batch_norm=False),
    "resnet34_r": _resnet("resnet34", hidden=8, stacked=(1, 2), batch_norm=False),
}


def tissue_vgg16(
    num_classes: int, input_shape: Sequence[int], hidden: int = 4, name: str = "tissue_vgg16"
) -> keras.Model:
    """Builds VGG-16 of stacked units with random weights.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255], sides of 32 pixels or more.
        hidden: c_h, hidden width of a unit; 4 and 6 in the paper.
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Reference: Lan et al., TissueNet, arXiv 2205.01508, tables 2 and 3.
    """
    base = vars(plain_vgg.NETWORKS["vgg16_cifar"])
    network = TissueVGG(**base, hidden=hidden, stacked=(0, 1, 2, 3, 4))
    return sequential(network.layers(num_classes), input_shape, name)


def tissue_vgg19(
    num_classes: int,
    input_shape: Sequence[int],
    hidden: int = 6,
    keep_ends: bool = False,
    name: str = "tissue_vgg19",
) -> keras.Model:
    """Builds VGG-19 of stacked units with random weights.

    The units of the last three stages are 2-c_h-c_h-2.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255], sides of 32 pixels or more.
        hidden: c_h, hidden width of a unit; 6 in the paper.
        keep_ends: whether the first and the last stage are plain, the paper's strategy "r". The
            last stage then has three convolutions.
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Reference: Lan et al., TissueNet, arXiv 2205.01508, table 4.
    """
    base = vars(plain_vgg.NETWORKS["vgg19"])
    if keep_ends:
        base = {**base, "depths": (*base["depths"][:-1], 3)}
    stacked = (1, 2, 3) if keep_ends else (0, 1, 2, 3, 4)
    network = TissueVGG(**base, hidden=hidden, stacked=stacked)
    return sequential(network.layers(num_classes), input_shape, name)


def tissue_resnet(
    network: str, num_classes: int, input_shape: Sequence[int], name: str | None = None
) -> keras.Model:
    """Builds a ResNet of stacked units with random weights.

    Deviations from the paper: by its table 4, its ResNet-34 takes images of 224 pixels without the
    strides of the stem (113.8 GFLOPs); this one has the stem for ImageNet. Its table 3 prints
    c_h = 6 for ResNet-18 "r", with the parameters and FLOPs of c_h = 4, which is taken here.

    Args:
        network: "resnet18" (all stages, c_h = 6), "resnet18_r" (stages 2 and 3, c_h = 4, no batch
            norm in the units) or "resnet34_r" (stages 2 and 3, c_h = 8, no batch norm in the
            units).
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        name: name of the model; None for "tissue_" and `network`.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Reference: Lan et al., TissueNet, arXiv 2205.01508, tables 2 to 4.
    """
    return plain(RESNETS_STACKED[network], num_classes, input_shape, name or f"tissue_{network}")


def tissue_mobilenet_v2(
    num_classes: int, input_shape: Sequence[int], name: str = "tissue_mobilenetv2_r"
) -> keras.Model:
    """Builds MobileNetV2 with stacked expansions and random weights.

    The expansions are units 2-12 in all stages but the first and the last.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Reference: Lan et al., TissueNet, arXiv 2205.01508, section 4.4.3.
    """
    return plain(MobileNetV2Cifar(stacked=(1, 2, 3, 4, 5)), num_classes, input_shape, name)


def tissue_mlp(
    num_classes: int, input_shape: Sequence[int], hidden: int = 4, name: str = "tissue_mlp"
) -> keras.Model:
    """Builds dense units 2-c_h-2 over all pixels and a full layer, with random weights.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 1) of the images, in [0, 255], with an even number of pixels.
        hidden: c_h, hidden width of a unit; 4 in the paper.
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Reference: Lan et al., TissueNet, arXiv 2205.01508, table 1.
    """
    chain = [
        normalise(MNIST_GRAY),
        layers.Flatten(name="flatten"),
        StackedUnits1D((2, hidden, 2), name="units"),
        layers.Dense(num_classes, name="logits", dtype="float32"),
    ]
    return sequential(chain, input_shape, name)


def tissue_lenet5(
    num_classes: int,
    input_shape: Sequence[int],
    hidden: int | Sequence[int] = 3,
    unit_seed: int = 0,
    name: str = "tissue_lenet5",
) -> keras.Model:
    """Builds a small LeNet of units 1-c_h-1 with random weights.

    The network has two stages of 4 and 12 channels, each a full 3x3 convolution, one unit for
    each channel and a max-pool; then global average pooling and a full layer.

    Deviation from the paper, which says no more of its network than that it is similar to LeNet-5
    and has 1.4 to 2.3 k parameters and 0.72 to 1.19 MFLOPs (table 5): this one has 1.4 to 2.0 k
    parameters and 0.75 to 1.21 MFLOPs.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 1) of the images, in [0, 255].
        hidden: c_h, hidden width of a unit, 2 to 4 in the paper; or several, such as (2, 3, 4),
            for hybrid units: each unit then has one of them, drawn at random.
        unit_seed: seed of that draw.
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Raises:
        ValueError: `hidden` is an empty list.

    Reference: Lan et al., TissueNet, arXiv 2205.01508, section 4.6.2.
    """
    rng = np.random.default_rng(unit_seed)
    chain = [normalise(MNIST_GRAY)]
    for stage, width in enumerate((4, 12), 1):
        units = _lenet_units(hidden, width, rng)
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


def _lenet_units(hidden: int | Sequence[int], count: int, rng: np.random.Generator) -> Any:
    """Gives the unit 1-c_h-1, or `count` units whose hidden widths are drawn from several."""
    if isinstance(hidden, numbers.Integral):
        return (1, hidden, 1)
    widths: Any = hidden
    if not len(widths):
        raise ValueError(
            "hidden is the hidden width of a unit or a list of several, not an empty one"
        )
    # Equal units stand side by side: between full layers the order of channels has no meaning.
    return [(1, int(h), 1) for h in sorted(rng.choice(widths, count))]
