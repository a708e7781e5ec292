"""TissueNet's networks: the counts that its paper prints, and where their units are."""

import keras
import numpy as np
import pytest
from helpers import layers_of

from keras_dynnets import zoo
from keras_dynnets.layers import GroupedConv2D, StackedUnits2D
from keras_dynnets.profile import count, tissue_table
from keras_dynnets.studies.tissue import TISSUE, UNITS

# Derived by hand from the architectures. FLOPs are those of all layers, with biases of convolutions
# and batch norm.
DERIVED = {
    ("mlp", ()): (545_810, 1_090_000),
    ("tissue_mlp", ()): (16_474, 28_224),
    ("vgg16_cifar", ()): (14_913_162, 779_646_976),
    ("vgg16_cifar", (100,)): (14_959_332, 779_739_136),
    ("tissue_vgg16", ()): (4_038_090, 156_657_664),
    ("tissue_vgg16", (100,)): (4_084_260, 156_749_824),
    ("tissue_vgg16", (100, 6)): (4_141_668, 166_494_208),
    ("vgg19", ()): (20_630_088, 3_799_482_368),
    ("tissue_vgg19", ()): (4_719_048, 702_808_064),
    ("tissue_vgg19_r", ()): (9_358_152, 1_393_344_512),
    ("resnet18_cifar", ()): (11_173_962, 1_113_303_040),
    ("resnet18_cifar", (100,)): (11_220_132, 1_113_395_200),
    ("tissue_resnet18", ()): (6_647_370, 685_484_032),
    ("tissue_resnet18_r", ()): (10_114_890, 904_112_128),
    ("tissue_resnet18_r", (100,)): (10_161_060, 904_204_288),
    ("mobilenetv2_cifar", ()): (2_254_090, 134_954_400),
    ("tissue_mobilenetv2_r", ()): (1_668_106, 97_334_304),
}


@pytest.fixture(scope="module")
def table():
    return tissue_table()


def test_the_table_has_the_derived_counts(table):
    found = {
        (row.printed.entry, tuple(row.printed.options.values())): (row.params, row.flops)
        for row in table
    }
    assert found == DERIVED


def test_the_table_stands_beside_the_printed_one(table):
    assert len(table) == sum(len(group) for groups in TISSUE.values() for group in groups)
    for row in table:
        printed = row.printed
        # half a unit of the last digit, or a whole one: the paper rounds here and cuts there
        assert abs(row.params / 1e6 - printed.params) < 0.0101
        assert abs(row.flops / UNITS[printed.unit] - printed.flops) < 0.0149


def test_efficiencies_are_the_printed_ones(table):
    for row in table:
        printed = row.printed
        if printed.entry == "tissue_vgg19_r":
            # The paper has the two accuracies of this row the other way round.
            inverse = (55.65 / 53.54) ** 2
            assert (round(row.ce * inverse, 1), round(row.se * inverse, 2)) == (2.8, printed.se)
        elif printed.ce is not None:
            assert abs(row.ce - printed.ce) < 0.025 and abs(row.se - printed.se) < 0.015


@pytest.mark.parametrize(
    "name, stages",
    [
        ("tissue_vgg16", [1, 2, 3, 4, 5]),
        ("tissue_vgg19_r", [2, 3, 4]),
        ("tissue_resnet18", [1, 1, 2, 2, 3, 3, 4, 4]),
        ("tissue_resnet18_r", [2, 2, 3, 3]),
    ],
)
def test_where_the_units_are(name, stages):
    units = [layer for layer in zoo.load(name, None).layers if isinstance(layer, StackedUnits2D)]
    assert [int(layer.name[len("stage")]) for layer in units] == stages


def test_units_of_the_networks():
    vgg = {
        layer.units for layer in layers_of(zoo.load("tissue_vgg16", None, hidden=6), StackedUnits2D)
    }
    assert vgg == {(2, 6, 2)}
    vgg19 = [layer.units for layer in layers_of(zoo.load("tissue_vgg19", None), StackedUnits2D)]
    assert vgg19 == [(2, 6, 2)] * 2 + [(2, 6, 6, 2)] * 3
    first = zoo.load("tissue_resnet18", None).get_layer("stage2_block1_units")
    assert (first.units, first.strides) == ((2, 6, 4), (1, 2))
    grouped = layers_of(zoo.load("tissue_mobilenetv2_r", None), GroupedConv2D)
    assert [c.groups for c in grouped if c.groups > 1] == [
        c.kernel.shape[3] // 12 for c in grouped if c.groups > 1
    ]
    assert sum(c.groups > 1 for c in grouped) == 15


def test_lenet_of_single_and_of_hybrid_units():
    single = [zoo.load("tissue_lenet5", None, hidden=h) for h in (2, 3, 4)]
    assert [layer.units for layer in layers_of(single[1], StackedUnits2D)] == [(1, 3, 1)] * 2
    assert [count(model).params for model in single] == [1366, 1702, 2038]
    hybrid = zoo.load("tissue_lenet5", None, hidden=(2, 3, 4), unit_seed=1)
    drawn = [unit for layer in layers_of(hybrid, StackedUnits2D) for unit in layer.units]
    assert len(drawn) == 16 and set(drawn) == {(1, 2, 1), (1, 3, 1), (1, 4, 1)}
    assert count(hybrid).params == 1366 + 21 * sum(unit[1] - 2 for unit in drawn)
    seeds = [zoo.load("tissue_lenet5", None, hidden=(2, 3, 4), unit_seed=seed) for seed in (1, 2)]
    same, other = (
        [unit for layer in layers_of(m, StackedUnits2D) for unit in layer.units] for m in seeds
    )
    assert same == drawn != other


def test_flops_by_hand():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(2, 1, use_bias=False)(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    counted = count(keras.Model(inputs, x))
    assert counted.flops == 2 * (64 * 9 * 4 * 6 + 64 * 6 + 2 * 64 * 6 + 64 * 6 * 2 + 128 * 3)
    half = count(
        keras.Model(inputs, keras.layers.Conv2D(6, 3, padding="same", use_bias=False)(inputs))
    )
    ce, se = half.efficiency(45.0, counted, 90.0)
    assert ce == 0.5 * counted.flops / half.flops and se == 0.5 * counted.params / half.params


def test_mnist_networks_take_gray_images():
    model = zoo.load("tissue_mlp", None)
    assert model.input_shape == (None, 28, 28, 1)
    assert model(np.zeros((2, 28, 28, 1), "float32")).shape == (2, 10)
    with pytest.raises(ValueError, match=r"input_shape is \(height, width, 1\)"):
        zoo.load("tissue_mlp", None, input_shape=(28, 28, 3))
    with pytest.raises(ValueError, match="sides of at least 32 pixels"):
        zoo.load("tissue_vgg16", None, input_shape=(16, 16, 3))
