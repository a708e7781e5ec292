"""TissueNet: its tables of parameters, FLOPs and efficiencies, ours beside the paper's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from keras_dynnets import zoo
from keras_dynnets.measure.counting import count
from keras_dynnets.studies import Point, Study, Table

UNITS = {"M": 1e6, "1e8": 1e8, "G": 1e9}


@dataclass(frozen=True)
class Printed:
    """A row of a table in TissueNet (arXiv 2205.01508, tables 1 to 4).

    Attributes:
        entry: name in our zoo of the network that the row is about.
        params: parameters as printed, in 1e6.
        flops: FLOPs as printed, in `unit`.
        unit: one of `UNITS`.
        accuracy: top-1 accuracy in %.
        ce: computation efficiency as printed; None where the paper prints none.
        se: storage efficiency as printed; None where the paper prints none.
        options: options of `zoo.load` for the network.
    """

    entry: str
    params: float
    flops: float
    unit: str
    accuracy: float
    ce: float | None = 1.0
    se: float | None = 1.0
    options: dict = field(default_factory=dict)


_100 = {"num_classes": 100}
# By data set, groups of rows: a baseline, then the networks that the paper compares with it.
TISSUE = {
    "MNIST": [
        [
            Printed("mlp", 0.55, 1.09, "M", 92.65),
            Printed("tissue_mlp", 0.02, 0.03, "M", 91.95, None, None),
        ],
    ],
    "CIFAR-10": [
        [
            Printed("vgg16_cifar", 14.91, 7.80, "1e8", 93.25),
            Printed("tissue_vgg16", 4.04, 1.57, "1e8", 92.82, 4.95, 3.67),
        ],
        [
            Printed("resnet18_cifar", 11.17, 11.13, "1e8", 95.29),
            Printed("tissue_resnet18_r", 10.11, 9.04, "1e8", 94.50, 1.22, 1.10),
            Printed("tissue_resnet18", 6.65, 6.84, "1e8", 93.31, 1.59, 1.64),
        ],
        [
            Printed("mobilenetv2_cifar", 2.25, 1.35, "1e8", 92.20),
            Printed("tissue_mobilenetv2_r", 1.67, 0.97, "1e8", 91.14, 1.37, 1.33),
        ],
    ],
    "CIFAR-100": [
        [
            Printed("vgg16_cifar", 14.96, 7.79, "1e8", 73.55, options=_100),
            Printed("tissue_vgg16", 4.14, 1.67, "1e8", 71.13, 4.51, 3.49, {**_100, "hidden": 6}),
            Printed("tissue_vgg16", 4.08, 1.57, "1e8", 70.40, 4.74, 3.51, _100),
        ],
        [
            Printed("resnet18_cifar", 11.22, 11.13, "1e8", 77.32, options=_100),
            Printed("tissue_resnet18_r", 10.16, 9.03, "1e8", 76.56, 1.22, 1.09, _100),
        ],
    ],
    "Tiny-ImageNet": [
        [
            Printed("vgg19", 20.63, 3.80, "G", 55.65),
            Printed("tissue_vgg19", 4.72, 0.70, "G", 50.20, 4.90, 3.94),
            Printed("tissue_vgg19_r", 9.36, 1.39, "G", 53.54, 2.84, 2.29),
        ],
    ],
}


@dataclass(frozen=True)
class Ours:
    """Our counts for a row that the paper prints.

    Attributes:
        data: name of its data set.
        printed: the row.
        params: number of trainable values.
        flops: FLOPs for one image in the paper's convention (see `cost.call_flops`).
        ce: computation efficiency by our counts and the paper's accuracies.
        se: storage efficiency by our counts and the paper's accuracies.
    """

    data: str
    printed: Printed
    params: int
    flops: int
    ce: float
    se: float


def tissue_table(build: Callable[..., Any] = zoo.load) -> list[Ours]:
    """Counts the networks in the tables of TissueNet.

    The rows that no uniform rule reproduces (ResNet-18 with c_h = 4 in all stages, ResNet-34) and
    MobileNetV2 on CIFAR-100 are left out.

    Args:
        build: called as `build(name, weights=None, **options)`; gives the network of that name.

    Returns:
        A list of `Ours`, a row for each row of the paper.

    Example:
        >>> [(row.printed.entry, row.params) for row in profile.tissue_table()][:2]
        [('mlp', 545810), ('tissue_mlp', 16474)]

    Reference: Lan et al., TissueNet, arXiv 2205.01508, tables 1 to 4; the efficiencies CE and SE,
    section 4.1.
    """
    rows = []
    for data, groups in TISSUE.items():
        for group in groups:
            counts = [count(build(row.entry, weights=None, **row.options)) for row in group]
            for row, counted in zip(group, counts, strict=True):
                ce, se = counted.efficiency(row.accuracy, counts[0], group[0].accuracy)
                rows.append(Ours(data, row, counted.params, counted.flops, ce, se))
    return rows


def table() -> Table:
    """Gives the table of the command line."""

    def printed(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    rows = []
    for row in tissue_table():
        theirs = row.printed
        options = [f", {k}={v}" for k, v in theirs.options.items() if k != "num_classes"]
        rows.append(
            {
                "data": row.data,
                "network": theirs.entry + "".join(options),
                "parameters, 1e6": f"{row.params / 1e6:.3f} / {theirs.params:.2f}",
                "FLOPs": f"{row.flops / UNITS[theirs.unit]:.4f} / {theirs.flops:.2f} {theirs.unit}",
                "CE": f"{row.ce:.2f} / {printed(theirs.ce)}",
                "SE": f"{row.se:.2f} / {printed(theirs.se)}",
            }
        )
    return Table(
        "TissueNet (arXiv 2205.01508), ours / the paper's; CE and SE by the paper's accuracies",
        rows,
        (
            "The paper's CE and SE of tissue_vgg19_r have its two accuracies the other way round: "
            "55.65 / 53.54.",
        ),
    )


def _point(name: str, accuracy: float, flops: float, params: float) -> Point:
    """Makes a point of the paper's accuracy in %, FLOPs and parameters.

    A MAC is two FLOPs, and a parameter has the four bytes of float32.
    """
    return Point(name, accuracy / 100, flops / 2, 4 * params)


STUDY = Study(
    table=table,
    points={
        "cifar10": (
            _point("Tissue VGG-16", 92.82, 157e6, 4.04e6),
            _point("Tissue ResNet-18 r", 94.50, 904e6, 10.11e6),
            _point("Tissue MobileNetV2", 91.14, 97e6, 1.67e6),
        ),
        "mnist": (
            _point("Tissue MLP", 91.95, 30e3, 0.02e6),
            _point("Tissue LeNet, smallest", 98.3, 0.72e6, 1.4e3),
            _point("Tissue LeNet, largest", 98.7, 1.19e6, 2.3e3),
        ),
    },
)
