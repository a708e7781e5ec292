"""What several test files share: small models, images, and gates that differ."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

from keras_dynnets import puppet
from keras_dynnets.baselines.resnet import ResNet
from keras_dynnets.baselines.skeleton import CIFAR_RGB
from keras_dynnets.families.cnsn.model import CNSN
from keras_dynnets.families.dmnn.model import BACKBONES, DMNN
from keras_dynnets.families.dmnn.path_controller import PathController
from keras_dynnets.families.dmnn.recipe import GateSchedule
from keras_dynnets.zoo import Entry

TESTS = Path(__file__).parent
# No narrower: oneDNN of TensorFlow 2.21 writes out of bounds in the filter gradient of a 1x1
# stride-2 convolution of 8 channels and an odd batch.
BACKBONES["tiny"] = ResNet("basic", (1, 2), (16, 32), 3, 1, False, CIFAR_RGB)
BACKBONES["two"] = ResNet("basic", (1, 1), (16, 32), 3, 1, False, CIFAR_RGB)
TINY_ENTRY = Entry(
    "tiny",
    "dmnn",
    DMNN,
    (32, 32, 3),
    10,
    arguments={"backbone": "tiny", "sub_blocks": 2},
    recipe_section=GateSchedule,
)


def detachable_parts(num_classes, input_shape, distillation=0.0, name=None):
    """A CNSN on `detachable_base`."""
    base = detachable_base(classes=num_classes, size=input_shape[0])
    return CNSN(base, ("stage1", "stage2"), distillation=distillation, name=name)


PARTS_ENTRY = Entry(
    "parts",
    "cnsn",
    detachable_parts,
    (32, 32, 3),
    10,
    part_options=("sub_model", "width"),
)


def tiny(num_classes=10, input_shape=(16, 16, 3), backbone="tiny", **arguments):
    """A DMNN of three blocks, or of two as "two"."""
    return DMNN(backbone, num_classes=num_classes, input_shape=input_shape, **arguments)


def detachable_base(filters=(8, 16), classes=10, size=16, **head):
    """A plain network of three stages, to cut behind "stage1" and "stage2"."""
    x = inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 64, -2.0, name="normalise")(x)
    for i, width in enumerate(filters, 1):
        x = layers.Conv2D(width, 3, padding="same", name=f"stage{i}_conv")(x)
        x = layers.BatchNormalization(name=f"stage{i}_bn")(x)
        x = layers.ReLU(name=f"stage{i}_relu")(x)
        x = layers.MaxPooling2D(name=f"stage{i}_pool")(x)
    y = layers.Conv2D(width, 3, padding="same", name="stage3_conv")(x)
    y = layers.BatchNormalization(name="stage3_bn")(y)
    x = layers.Add(name="stage3_add")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits", **head)(x), name="small")


def generated_plain(classes=10, size=16, **head):
    """Two stages, the second with a residual block; an optional layer in the first."""
    x = inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 64, -2.0)(x)
    for i in range(2):
        x = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"stage1_conv{i}")(x)
        x = layers.BatchNormalization(name=f"stage1_bn{i}")(x)
        x = layers.ReLU(name=f"stage1_relu{i}")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="stage2_conv")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="block_depthwise")(x)
    y = layers.BatchNormalization(name="block_bn")(y)
    y = layers.Conv2D(32, 1, name="block_conv")(y)
    x = layers.Add(name="block_add")([x, y])
    x = layers.Conv2D(classes, 1, name="logits")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="plain")


def generated(**options):
    """A puppet that knows some images and the statistics of its levels."""
    model = puppet.puppeteer(generated_plain(), **{"levels": 4, **options})
    model.calibrate(images(80))
    return model


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model, learning_rate=0.01, **arguments):
    model.compile(
        keras.optimizers.SGD(learning_rate), crossentropy(), metrics=["accuracy"], **arguments
    )
    return model


def images(count, size=16, seed=0):
    """Images in [0, 255] that differ in colour, brightness and contrast."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(0, 255, (count, 1, 1, 3))
    contrast = rng.uniform(0, 120, (count, 1, 1, 1))
    return np.clip(colour + contrast * rng.normal(size=(count, size, size, 3)), 0, 255).astype(
        "float32"
    )


def labels(count, classes=10):
    return (np.arange(count) % classes).astype("int32")


def layers_of(model, kind):
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def settle(model, x):
    """Gives batch norm the statistics of `x`, so that deep random networks stay in range."""
    settling_pass(model, x)
    return model


def settling_pass(model, x):
    """Outputs of a forward pass in training, whose statistics batch norm keeps whole."""
    norms = layers_of(model, layers.BatchNormalization)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    outputs = model(x, training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return outputs


def scatter_gates(model, seed=0):
    """Gives the controllers random decisions, so that the gates differ between images."""
    rng = np.random.default_rng(seed)
    for controller in layers_of(model, PathController):
        kernel, bias = controller.logits.weights
        kernel.assign(rng.normal(0, 10, kernel.shape))
        bias.assign(rng.normal(0, 1, bias.shape))
    return model


def force_gates(model, pattern):
    """Fixes every gate of a DMNN by a pattern (blocks, sub-blocks) of 0 and 1."""
    for controller, row in zip(layers_of(model, PathController), pattern, strict=True):
        kernel, bias = controller.logits.weights
        kernel.assign(np.zeros(kernel.shape))
        bias.assign(np.ravel([[0.0, 100.0 if on else -100.0] for on in row]))
    return model


def gates_of(model, x):
    return keras.ops.convert_to_numpy(model.with_gates()(x)["gates"])


def assert_close(a, b, tolerance=1e-5):
    """Equal within `tolerance` times the largest value (at least 1)."""
    a, b = (np.asarray(keras.ops.convert_to_numpy(v), "float64") for v in (a, b))
    assert a.shape == b.shape
    assert np.isfinite(a).all() and np.isfinite(b).all()
    assert np.abs(a - b).max(initial=0) <= tolerance * max(1.0, np.abs(b).max(initial=0))


def copy_by_config(layer):
    """The layer as a file would give it back: through its config as JSON."""
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    return keras.saving.deserialize_keras_object(json.loads(text))


def run_python(code, **environment):
    """Runs code in a fresh Python that can import this file; its standard output."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def record_fields(content, entry="resnet20", tag="one", **changes):
    """A record of a weights file that holds `content`, as `zoo/index.json` lists it."""
    digest = hashlib.sha256(content).hexdigest()
    return {
        "entry": entry,
        "tag": tag,
        "file": f"{entry}-{tag}-{digest[:8]}.weights.h5",
        "sha256": digest,
        "bytes": len(content),
        "params": 100,
        "macs": 1000,
        "classes": list("abcd"),
        "input_shape": [32, 32, 3],
        "options": {},
        "metrics": {"accuracy": 0.5, "images": 10},
        "data_source": "made for a test",
        "license": "none",
        "evaluate": "keras-dynnets evaluate",
        "train": "keras-dynnets train",
        "recipe": {"data": "digits", "epochs": 1, "batch_size": 2, "seed": 3, "validation": 4},
        "seconds": 1.0,
        "hardware": "2 cores",
        "versions": {"keras": "3"},
        **changes,
    }
