"""The papers' tables, ours beside theirs."""

from dataclasses import dataclass, field

from keras_dynnets import cost, graph, zoo
from keras_dynnets.layers import KernelODE
from keras_dynnets.profile.count import count

UNITS = {"M": 1e6, "1e8": 1e8, "G": 1e9}


@dataclass(frozen=True)
class Printed:
    """A row of a table in TissueNet (arXiv 2205.01508, tables 1 to 4) and the network it is about.

    Attributes:
        entry, options: the network in our zoo.
        params, flops: as printed, in 1e6 and in `unit`, one of `UNITS`.
        accuracy: top-1 in %.
        ce, se: efficiencies as printed; None where the text has none.
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
# data set: groups of a baseline and the networks held against it
TISSUE = {
    "MNIST": [
        [Printed("mlp", 0.55, 1.09, "M", 92.65), Printed("tissue_mlp", 0.02, 0.03, "M", 91.95, None, None)],
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
    """What we count where a row is printed.

    Attributes:
        data: its data set.
        printed: the row.
        params: trainable values. flops: in the paper's convention.
        ce, se: efficiencies by our counts and the paper's accuracies.
    """

    data: str
    printed: Printed
    params: int
    flops: int
    ce: float
    se: float


def tissue_table(build=zoo.load):
    """TissueNet's tables, row by row.

    Left out are the rows that no uniform rule reproduces (ResNet-18 with c_h = 4 in all stages,
    ResNet-34) and MobileNetV2 on CIFAR-100.

    Args:
        build: called with a name, `weights=None` and options, gives the network.

    Returns:
        A list of `Ours`.
    """
    rows = []
    for data, groups in TISSUE.items():
        for group in groups:
            counts = [count(build(row.entry, weights=None, **row.options)) for row in group]
            for row, counted in zip(group, counts, strict=True):
                ce, se = counted.efficiency(row.accuracy, counts[0], group[0].accuracy)
                rows.append(Ours(data, row, counted.params, counted.flops, ce, se))
    return rows


@dataclass(frozen=True)
class Detached:
    """A row of CNSN's table: a model, ours and the paper's.

    Attributes:
        name: "base", "sub1" or "sub2".
        theirs: what the paper's table calls it.
        params: trainable values. macs: MACs of convolutions and products.
        operations: in the paper's convention. printed: the same in the paper, in 1e9.
        accuracy: top-1 on CIFAR-10 in % there.
    """

    name: str
    theirs: str
    params: int
    macs: int
    operations: int
    printed: float
    accuracy: float


# In the text the first sub-model lacks two convolutions and the second seven; the table has their names swapped.
CNSN = {
    "base": ("base-model", 0.314, 92.67),
    "sub1": ("sub-model1", 0.275, 91.15),
    "sub2": ("sub-model0", 0.124, 77.38),
}


def cnsn_table(build=zoo.load):
    """CNSN's table of operations, row by row: a list of `Detached`. `build` as for `tissue_table`."""
    model = build("cnsn_vgg16", weights=None)
    rows = []
    for name, (theirs, printed, accuracy) in CNSN.items():
        part = model.part(name)
        counted = count(part)
        operations = sum(cost.layer_operations(*call) for call in graph.calls(part))
        rows.append(Detached(name, theirs, counted.params, counted.macs, operations, printed, accuracy))
    return rows


# Puppet-CNN (arXiv 2411.12876): what is stored, in 1e6 bytes, by the most channels C
PUPPET = {64: 0.02, 128: 0.07, 256: 0.28, 512: 1.08, 1024: 4.26, 2048: 16.90, 4096: 67.35}


@dataclass(frozen=True)
class Stored:
    """A row of Puppet-CNN's table of sizes.

    Attributes:
        channels: C.
        params: trainable values of our puppeteer. initial_state: the most that another initial state adds to them.
        printed: megabytes in the paper.
    """

    channels: int
    params: int
    initial_state: int
    printed: float


def puppet_table():
    """Puppet-CNN's table of sizes, row by row: a list of `Stored`."""
    rows = []
    for channels, printed in PUPPET.items():
        puppeteers = [KernelODE(channels, state=state) for state in ("constant", "rank_one")]
        for puppeteer in puppeteers:
            puppeteer.build()
        params, with_factors = (puppeteer.count_params() for puppeteer in puppeteers)
        rows.append(Stored(channels, params, with_factors - params, printed))
    return rows
