"""Files that version 0.1 saved load in this version and give the logits that they gave then.

The files in fixtures/before_0_2 were written by `model.save` and `model.save_weights` of the
networks in `NETWORKS`, `logits.json` by `model.predict` on `helpers.images(4)`.
"""

import json
from pathlib import Path

import helpers
import keras
import numpy as np
import pytest
from keras import layers

from keras_dynnets import puppet
from keras_dynnets.baselines.resnet import ResNet
from keras_dynnets.baselines.skeleton import CIFAR_RGB
from keras_dynnets.cnsn import CNSN
from keras_dynnets.dmnn import DMNN
from keras_dynnets.layers import (
    BatchNormalization,
    ChannelSlice,
    GroupedConv2D,
    GroupedDense,
    GumbelGate,
    MultiPath,
    PathController,
    StackedUnits1D,
    StackedUnits2D,
    StepDownConv2D,
)

FOLDER = Path(__file__).parent / "fixtures" / "before_0_2"
LOGITS = json.loads((FOLDER / "logits.json").read_text())


def dmnn():
    return DMNN("smallest", num_classes=3, input_shape=(16, 16, 3), categories=(0, 1, 1), seed=3)


def cnsn():
    base = helpers.detachable_base((8, 8), classes=3)
    return CNSN(base, ("stage1", "stage2"), widths=(1.0, 0.5))


def tissue():
    x = inputs = keras.Input((16, 16, 3))
    x = GroupedConv2D(8, 3, padding="same")(x)
    x = BatchNormalization()(x)
    x = StackedUnits2D((2, 4, 2))(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = StackedUnits1D((2, 3, 2))(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="tissue")


def generated():
    return puppet.puppeteer(helpers.generated_plain(classes=3), levels=2)


def layers_alone():
    """Layers of the library in a functional model of the user's own."""
    inputs = keras.Input((16, 16, 3))
    x = StepDownConv2D(8, 4)(inputs)
    left, right = ChannelSlice(0, 4)(x), ChannelSlice(4, 4)(x)
    gates, state = PathController(2, units=4, seed=1)(left)
    paths = [keras.Sequential([layers.Conv2D(4, 3, padding="same")]) for _ in range(2)]
    x = MultiPath(paths)(left, gates, right)
    more_gates = GumbelGate(seed=2)(layers.Reshape((2, 2))(state))
    x = GroupedDense(6, 2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([x, more_gates])))


NETWORKS = {
    "dmnn": dmnn,
    "cnsn": cnsn,
    "tissue": tissue,
    "puppet": generated,
    "layers": layers_alone,
}


@pytest.fixture(autouse=True)
def smallest_backbone(monkeypatch):
    backbone = ResNet("basic", (1, 1), (8, 16), 3, 1, False, CIFAR_RGB)
    monkeypatch.setitem(helpers.BACKBONES, "smallest", backbone)


def from_model_file(name):
    return keras.saving.load_model(FOLDER / f"{name}.keras")


def from_weights_file(name):
    model = NETWORKS[name]()
    model.load_weights(FOLDER / f"{name}.weights.h5")
    return model


@pytest.mark.parametrize("loaded", [from_model_file, from_weights_file])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_version_0_1_gives_its_logits(name, loaded):
    wanted = np.array(LOGITS[name])
    assert np.ptp(wanted, axis=0).min() > 0, "images must differ for this test to say anything"
    found = loaded(name).predict(helpers.images(4), verbose=0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_every_family_has_files():
    from keras_dynnets import families

    assert set(NETWORKS) == {*families.NAMES, "layers"} == set(LOGITS)
    assert {path.name for path in FOLDER.iterdir()} == {
        "logits.json",
        *(f"{name}{suffix}" for name in NETWORKS for suffix in (".keras", ".weights.h5")),
    }
