"""Models of every family as Keras models: docs/keras-compatibility.md says what happens.

Each cell of the page's table is one test. "right": the answers are those of the model itself.
"warned": right but for what a warning says. "refused": an error says what to do instead, before
anything has changed.
"""

import copy
import re
import threading
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import (
    CNSN,
    crossentropy,
    detachable_base,
    images,
    labels,
    scatter_gates,
    settle,
    tiny,
)

import keras_dynnets
from keras_dynnets import puppet
from keras_dynnets.layers import StackedUnits1D, StackedUnits2D

L = keras.layers
SHAPE = (16, 16, 3)
PAGE = (Path(__file__).parents[2] / "docs" / "keras-compatibility.md").read_text()


def dmnn():
    return scatter_gates(settle(tiny(num_classes=3), images(16)))


def cnsn():
    return CNSN(detachable_base(classes=3), ("stage1",), name="parts")


def tissue():
    x = inputs = keras.Input(SHAPE)
    x = L.Conv2D(8, 3, padding="same", name="stage1_conv")(x)
    x = StackedUnits2D((2, 4, 2), name="units2d")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = StackedUnits1D((2, 3, 2), name="units1d")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="tissue")


def generated():
    model = puppet.puppeteer(detachable_base((8,), classes=3), levels=2)
    model.rank(images(16))
    return model


MODELS = {
    "DMNN": dmnn,
    "CNSN": cnsn,
    "TissueNet": tissue,
    "Puppet-CNN": generated,
    "plain": lambda: detachable_base(classes=3),
}


# ---- the page


def rows():
    """Outcomes by use and family, from the page's table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def outcome(action, model):
    """What an action on a model leads to; an answer that is wrong fails the test."""
    before = [np.array(w) for w in model.weights]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            action()
        except ValueError as error:
            assert re.search(r"keras_dynnets\.|model\.\w+\(|zoo\.load", str(error)), error
            same = [
                np.array_equal(a, np.array(w)) for a, w in zip(before, model.weights, strict=True)
            ]
            assert all(same)
            return "refused"
    messages = [str(w.message) for w in found]
    return "warned" if any(re.search(r"\btrain", m) for m in messages) else "right"


# ---- the uses


def close(found, wanted, tolerance=1e-4):
    found, wanted = np.array(found, "float64"), np.array(wanted, "float64")
    assert found.shape == wanted.shape and np.isfinite(found).all()
    assert np.abs(found - wanted).max() <= tolerance * max(1, np.abs(wanted).max())


def step(model, loss=None, **arguments):
    """One step of `fit`, without a graph, which takes long to make."""
    model.compile(keras.optimizers.SGD(0.01), loss or crossentropy(), run_eagerly=True, **arguments)
    return model.fit(images(6), labels(6, 3), batch_size=6, verbose=0)


def changed(model, action):
    before = {w.path: np.array(w) for w in model.trainable_weights}
    action()
    return {w.path for w in model.trainable_weights if (before[w.path] != np.array(w)).any()}


def augmented(model, folder):
    outer = keras.Sequential([keras.Input(SHAPE), L.RandomFlip(), model])
    assert changed(outer, lambda: step(outer))


def frozen_under_a_head(model, folder):
    model.trainable = False
    outer = keras.Sequential([keras.Input(SHAPE), model, L.Dense(3, name="new")])
    assert len(outer.trainable_weights) == 2
    before = np.array(model(images(4)))
    assert len(changed(outer, lambda: step(outer))) == 2
    close(model(images(4)), before)
    close(outer(images(4)), outer.get_layer("new")(before))


def at_the_last_layer(model, folder):
    close(keras.Model(model.input, model.layers[-1].output)(images(4)), model(images(4)))


def at_an_inner_layer(model, folder):
    x = L.Dense(3)(model.get_layer("pool").output)
    outer = keras.Model(model.input, x)
    assert len(changed(outer, lambda: step(outer))) > 4


def grad_cam(model, folder):
    import tensorflow as tf

    features = model.get_layer("pool").input
    both = keras.Model(model.input, [features, model.outputs[0]])
    with tf.GradientTape() as tape:
        maps, logits = both(images(4))
        score = tf.reduce_sum(logits[:, 1])
    close(logits, model(images(4)))
    assert np.abs(tape.gradient(score, maps)).max() > 0


def time_distributed(model, folder):
    x = images(6).reshape(3, 2, *SHAPE)
    close(L.TimeDistributed(model)(x)[:, 1], model(x[:, 1]))


def frozen_layer_by_layer(model, folder):
    for layer in model.layers:
        layer.trainable = layer.name == "logits"
    assert changed(model, lambda: step(model)) == {w.path for w in model.trainable_weights}
    assert {w.path for w in model.trainable_weights} <= {"logits/kernel", "logits/bias"}


def frozen_by_name(model, folder):
    assert keras_dynnets.freeze(model, all_but="head") == 2
    assert keras_dynnets.unfreeze(model) > 2


def saved_frozen(model, folder):
    keras_dynnets.freeze(model, all_but="head")
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]
    close(loaded(images(4)), model(images(4)))


def cloned(model, folder):
    clone = keras.models.clone_model(model)
    assert len(clone.weights) == len(model.weights)
    clone.set_weights(model.get_weights())
    close(clone(images(4)), model(images(4)))
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}


def from_config(model, folder):
    other = type(model).from_config(model.get_config())
    other.set_weights(model.get_weights())
    close(other(images(4)), model(images(4)))


def deep_copied(model, folder):
    other = copy.deepcopy(model)
    close(other(images(4)), model(images(4)))
    assert not {id(w) for w in other.weights} & {id(w) for w in model.weights}


def quantized(model, folder):
    before = np.array(model(images(4)))
    model.quantize("int8")
    close(model(images(4)), before, 0.1)


def exported_by_keras(format, name):
    def export(model, folder):
        import tensorflow as tf

        path = str(folder / name)
        model(images(1))  # Keras exports no model to ONNX that was never called
        model.export(path, format=format, verbose=False)
        for count in (1, 4):
            x = images(count)
            if format == "tf_saved_model":
                loaded = tf.saved_model.load(path)
                found = loaded.serve(x)
            elif format == "onnx":
                runtime = pytest.importorskip("onnxruntime").InferenceSession(path)
                found = runtime.run(None, {runtime.get_inputs()[0].name: x})[0]
            else:
                runtime = tf.lite.Interpreter(path)
                place = runtime.get_input_details()[0]["index"]
                runtime.resize_tensor_input(place, x.shape)
                runtime.allocate_tensors()
                runtime.set_tensor(place, x)
                runtime.invoke()
                found = runtime.get_tensor(runtime.get_output_details()[0]["index"])
            close(found, model(x))

    return export


class Share(keras.metrics.Metric):
    """A metric without `get_config`."""

    def __init__(self, of):
        super().__init__(name="share")
        self.of, self.total = of, self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign(keras.ops.mean(keras.ops.cast(y_true == self.of, "float32")))

    def result(self):
        return self.total


def own_metrics(model, folder):
    def loss(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_pred))

    def spread(y_true, y_pred):
        return keras.ops.max(y_pred) - keras.ops.min(y_pred)

    history = step(model, loss, metrics=[spread, Share(1)]).history
    assert any(name.endswith("spread") for name in history)
    shares = [history[name][0] for name in history if name.endswith("share") and "macs" not in name]
    assert shares and np.allclose(shares, 1 / 3)


def two_threads(model, folder):
    model.compile(keras.optimizers.SGD(0.0), crossentropy(), run_eagerly=True)
    found, x = [], images(4)
    training = threading.Thread(target=lambda: model.fit(images(8), labels(8, 3), 2, 2, verbose=0))
    training.start()
    while training.is_alive():
        found.append(model(x, training=False))
    training.join()
    found.append(model(x, training=False))
    assert all(np.shape(logits) == (4, 3) for logits in found)


POLICIES = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")


def every_policy(model, make):
    """Made under each policy, with the weights of the model in float32."""
    x, wanted = images(6), np.array(model(images(6)))
    for name in POLICIES:
        keras.config.set_dtype_policy(name)
        try:
            other = make()
        finally:
            keras.config.set_dtype_policy("float32")
        other.set_weights(model.get_weights())
        found = np.array(keras.ops.cast(other(x), "float32"))
        assert np.isfinite(found).all() and found.shape == wanted.shape
        # Not of every image, because a gate that hardly opens may close in half precision.
        error = np.abs(found - wanted).max(1) / np.abs(wanted).max()
        assert np.median(error) < (1e-3 if name == "float64" else 0.1), name


USES = {
    "in a `Sequential` behind augmentation, `fit`": augmented,
    "frozen under a new head, `fit`": frozen_under_a_head,
    "cut open at `layers[-1]`": at_the_last_layer,
    "a new head on an inner layer, `fit`": at_an_inner_layer,
    "Grad-CAM": grad_cam,
    "`TimeDistributed`": time_distributed,
    "`layer.trainable` for all but the head, `fit`": frozen_layer_by_layer,
    "`keras_dynnets.freeze`": frozen_by_name,
    "frozen, saved and loaded": saved_frozen,
    "`clone_model`": cloned,
    "`from_config(get_config())`": from_config,
    "`copy.deepcopy`": deep_copied,
    "`quantize`": quantized,
    "Keras's `export` to a SavedModel": exported_by_keras("tf_saved_model", "saved"),
    "Keras's `export` to LiteRT": exported_by_keras("litert", "model.tflite"),
    "Keras's `export` to ONNX": exported_by_keras("onnx", "model.onnx"),
    "metrics and losses of your own": own_metrics,
    "`fit` in one thread, inference in another": two_threads,
    "every dtype policy of Keras, inference": every_policy,
}
SLOW = [use for use in USES if "export" in use]


def cells():
    for use in USES:
        for family in MODELS:
            heavy = use in SLOW and rows().get(use, {}).get(family) != "refused"
            yield pytest.param(use, family, marks=[pytest.mark.slow] if heavy else [])


@pytest.mark.parametrize("use, family", cells())
def test_the_page_says_what_happens(use, family, tmp_path):
    model = MODELS[family]()
    given = MODELS[family] if USES[use] is every_policy else tmp_path
    assert outcome(lambda: USES[use](model, given), model) == rows()[use][family]


def test_the_page_has_every_use():
    assert list(rows()) == list(USES)
    assert all(list(row) == list(MODELS) for row in rows().values())
    assert {cell for row in rows().values() for cell in row.values()} <= {
        "right",
        "warned",
        "refused",
    }
