"""What every entry of the zoo must do."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_close,
    crossentropy,
    gates_of,
    images,
    labels,
    layers_of,
    scatter_gates,
    settling_pass,
)

from keras_dynnets import zoo
from keras_dynnets.core import cost, keras_private
from keras_dynnets.core.dynamic import interface
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.families.cnsn.model import CNSN
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.families.puppet.model import PuppetCNN
from keras_dynnets.layers import GroupedDense, MultiPath, PathController

# Trainable values: derived exactly, or printed in the paper and matched within 0.1 %.
EXACT = {"resnet50": 25_557_032, "resnet101": 44_549_160, "mobilenetv2": 3_504_872}
PRINTED = {"dmnn50": 24.67e6, "dmnn101": 43.12e6, "dmnn50_n3": 25.81e6, "dmnn50_n4": 25.81e6}
CLASSES = 5
PAGE = Path(__file__).parents[2] / "docs" / "entries.md"


# These differ from other entries in depth or width alone, so some tests leave them out.
DEEPER = {"resnet101", "mobilenetv2_140", "dmnn101", "dmnn50_n4", "dmnn_mobilenetv2_140"}


@pytest.fixture
def distinct(entry):
    if entry.name in DEEPER:
        pytest.skip("differs from another entry in depth or width alone")


def params(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def images_for(model, count, seed=0):
    _, size, _, channels = model.input_shape
    return images(count, size, seed)[..., :channels]


@pytest.fixture(scope="module", params=ENTRIES)
def entry(request):
    return ENTRIES[request.param]


@pytest.fixture(scope="module")
def trained(entry):
    """The model after one backward pass on small images, and the weights that it did not reach."""
    keras.utils.set_random_seed(3)
    size = entry.input_shape[0] if entry.input_shape[0] <= 64 else 48
    options = {"categories": (0, 0, 1, 1, 2), "seed": 1} if entry.family == "dmnn" else {}
    model = entry.build(CLASSES, (size, size, entry.input_shape[-1]), **options)
    model.compile("sgd", crossentropy())
    # Near their biases, because otherwise some gates start closed for every image.
    for controller in layers_of(model, PathController):
        controller.logits.kernel.assign(0.01 * controller.logits.kernel)
    x, y = images_for(model, 12, seed=9), tf.constant(labels(12, CLASSES))
    with tf.GradientTape() as tape:
        if isinstance(model, DMNN):
            network = model.training_network()
        elif isinstance(model, CNSN):
            network = model.joint
        else:
            network = keras.Model(model.input, keras_private.structured_outputs(model))
        outputs = settling_pass(network, x)
        loss = model.compute_loss(x, y, outputs)
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    unreached = [
        w.path
        for w, g in zip(model.trainable_weights, gradients, strict=True)
        if g is None or not np.isfinite(g).all() or not np.any(g)
    ]
    return model, unreached


@pytest.fixture(scope="module")
def small(trained):
    """The model, with batch norm settled and gates that differ."""
    model, _ = trained
    return scatter_gates(model) if isinstance(model, DMNN) else model


@pytest.fixture(scope="module")
def batch(small):
    return images_for(small, 3)


def test_gradients_reach_every_trainable_weight(trained):
    _, unreached = trained
    assert unreached == []


def test_forward(small, batch):
    logits = keras.ops.convert_to_numpy(small(batch))
    assert logits.shape == (3, CLASSES) and logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


def test_batch_equals_singles(small, batch):
    singles = np.concatenate([small(batch[i : i + 1]) for i in range(len(batch))])
    assert_close(singles, small(batch), 1e-4)


def test_num_classes_and_info(entry, small):
    """`info` counts on the default number of classes, which changes the size of the head alone."""
    info = zoo.info(entry.name)
    assert (info.name, info.family, info.num_classes) == (
        entry.name,
        entry.family,
        entry.num_classes,
    )
    assert info.input_shape == entry.input_shape
    row = f"| `{info.name}` | {info.params:,} | {info.macs:,} | {info.input_shape[0]} |"
    assert row in PAGE.read_text().splitlines()
    if entry.family == "puppet":
        assert info.params == params(small)  # for any number of classes
        return
    head, bias = small.get_layer("logits").kernel, small.get_layer("logits").use_bias
    assert head.shape[-1] == CLASSES
    own = params(small) - sum(
        int(np.prod(w.shape)) for w in small.trainable_weights if w.path.startswith("category")
    )
    assert info.params - own == (info.num_classes - CLASSES) * (head.shape[-2] + bias)


def test_file_round_trip(distinct, small, batch, tmp_path):
    file = tmp_path / "m.keras"
    small.save(file)
    copy = keras.saving.load_model(file)
    file.unlink()  # the large ones take 200 MB
    assert type(copy) is type(small)
    np.testing.assert_array_equal(copy(batch), small(batch))


def test_forms_agree(distinct, small, batch):
    if not isinstance(small, DMNN):
        assert not layers_of(small, MultiPath)
        return
    gates = gates_of(small, batch)
    assert 0 < gates.mean() < 1
    assert len(np.unique(gates.reshape(len(batch), -1), axis=0)) > 1
    singles = [batch[i : i + 1] for i in range(2)]
    small.execution = "masked"
    masked, masked_singles = small(batch), [small(x) for x in singles]
    small.execution = "sparse"
    assert_close(small(batch), masked)
    small.execution = "conditional"
    for x, logits in zip(singles, masked_singles, strict=True):
        assert_close(small(x), logits)
    small.execution = "auto"


def test_macs_by_the_kernels_that_run(small, batch):
    """Counts in another way: output positions of each convolution or dense layer by its kernel."""
    if isinstance(small, PuppetCNN):
        small = small.inference_network()
    dynamic = isinstance(small, DMNN)
    counted = (
        small.fixed_macs + small.path_macs.sum()
        if dynamic
        else cost.model_macs(interface(small).inference_network())
    )
    controllers, macs, seen = layers_of(small, PathController), 0, 0
    # In inference a controller multiplies by half of its last kernel in its own way, the first
    # controller has no state to embed, and the category heads do not run.
    apart = [c.logits for c in controllers] + [
        c.embed_state for c in controllers if not c.has_state
    ]
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense, GroupedDense)
    # A CNSN runs its base in inference, which has no step-down convolutions.
    elsewhere = ("category", "step_down")
    watched = [
        layer
        for layer in layers_of(small, kinds)
        if layer not in apart and not layer.name.startswith(elsewhere)
    ]
    for layer in watched:

        def call(*args, _layer=layer, _call=layer.call, **kwargs):
            nonlocal macs, seen
            output = _call(*args, **kwargs)
            macs += int(np.prod(output.shape[1:-1])) * int(np.prod(_layer.kernel.shape))
            seen += 1
            return output

        layer.call = call
    if dynamic:
        small.execution = "all"
    small(batch[:1])
    if dynamic:
        small.execution = "auto"
    for layer in watched:
        del layer.call
    assert seen == len(watched)
    assert macs + sum(c.units * c.sub_blocks for c in controllers) == counted


# ---- numbers of the papers


@pytest.mark.parametrize("name", EXACT)
def test_parameters_of_baselines(name):
    assert zoo.info(name).params == EXACT[name]


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_of_dmnn(name):
    assert zoo.info(name).params == pytest.approx(PRINTED[name], rel=1e-3)


def test_parameters_of_dmnn_mobilenet():
    model = ENTRIES["dmnn_mobilenetv2"].build(input_shape=(32, 32, 3))
    controllers = layers_of(model, PathController)
    own = [c.embed_state.kernel for c in controllers if c.has_state]
    assert len(controllers) == 17 and [w.shape for w in own] == [(32, 32)] * 16
    assert params(model) - 16 * 32 * 32 == 3_627_420
    # The paper prints 6.29 M and too little to derive the exact number for this width.
    assert zoo.info("dmnn_mobilenetv2_140").params == pytest.approx(6.29e6, rel=1e-2)


def test_macs_of_baselines():
    assert zoo.info("resnet50").macs == 4_089_184_256
    stem, head = 112 * 112 * 7 * 7 * 3 * 64, 2048 * 1000  # the paper does not count them
    assert round((zoo.info("resnet50").macs - stem - head) / 1e9, 2) in (3.96, 3.97)
    assert round((zoo.info("resnet101").macs - stem - head) / 1e9, 2) == 7.68
    assert round(zoo.info("mobilenetv2").macs / 1e9, 2) == 0.30
    assert round(zoo.info("resnet50_cifar").macs / 1e9, 2) == 0.33
