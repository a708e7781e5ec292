import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, copy_by_config, images, scatter_gates, settle, tiny
from keras import layers, ops

from keras_dynnets.layers import BatchNormalization, MultiPath

FORMS = ("masked", "sparse", "conditional")
GATES = {
    "differing": [[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]],
    "all on": [[1, 1]] * 5,
    "all off": [[0, 0]] * 5,
    "one path empty": [[0, 1], [0, 0], [0, 1], [0, 1], [0, 0]],
    "one row": [[0, 0], [0, 0], [0, 0], [1, 0], [0, 0]],
}


def path(name, activation=None):
    chain = [
        layers.Conv2D(4, 3, padding="same", activation=activation),
        BatchNormalization(),
        layers.Conv2D(5, 1),
    ]
    return keras.Sequential(chain, name=name)


def multi_path(execution="auto", **arguments):
    return MultiPath([path("a", "relu"), path("b")], execution, **arguments)


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 6, 6, 3)).astype("float32"), rng.normal(size=(5, 6, 6, 5)).astype(
        "float32"
    )


def run(layer, x, gates, shortcut):
    """Runs the layer on a batch, image by image where its form takes one image a call."""
    if layer.execution != "conditional":
        return layer(x, gates, shortcut)
    return np.concatenate(
        [layer(x[i : i + 1], gates[i : i + 1], shortcut[i : i + 1]) for i in range(len(x))]
    )


@pytest.mark.parametrize("execution", [*FORMS, "auto"])
@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
def test_forms_give_the_sum_of_the_open_paths(inputs, gates, execution):
    x, shortcut = inputs
    gates = np.array(gates, "float32")
    layer = multi_path(execution)
    output = run(layer, x, gates, shortcut)
    wanted = shortcut + sum(
        gates[:, n, None, None, None] * layer.paths[n](x).numpy() for n in range(2)
    )
    assert_close(output, wanted)


@pytest.mark.parametrize("execution", ["masked", "sparse", "auto"])
@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
def test_forms_inside_predict(inputs, gates, execution):
    x, shortcut = inputs
    tensors = [keras.Input(shape) for shape in ((6, 6, 3), (2,), (6, 6, 5))]
    layer = multi_path(execution)
    model = keras.Model(tensors, layer(*tensors))
    output = model.predict([x, np.array(gates, "float32"), shortcut], verbose=0)
    layer.execution = "masked"
    assert_close(output, layer(x, np.array(gates, "float32"), shortcut))


@pytest.mark.parametrize("gates", [[[1, 0]], [[0, 1]], [[1, 1]], [[0, 0]]])
def test_conditional_form_inside_a_graph(inputs, gates):
    x, shortcut = (t[:1] for t in inputs)
    gates = np.array(gates, "float32")
    layer = multi_path()
    layer(x, gates, shortcut)
    graph = tf.function(lambda *tensors: layer(*tensors)).get_concrete_function(
        *map(tf.constant, (x, gates, shortcut))
    )
    assert "If" in {op.type.removeprefix("Stateless") for op in graph.graph.get_operations()}
    layer.execution = "masked"
    assert_close(graph(*map(tf.constant, (x, gates, shortcut))), layer(x, gates, shortcut))


def test_all_ignores_the_gates(inputs):
    x, shortcut = inputs
    layer = multi_path("all")
    output = layer(x, np.array(GATES["differing"], "float32"), shortcut)
    layer.execution = "masked"
    assert_close(output, layer(x, np.ones((5, 2), "float32"), shortcut))


@pytest.mark.parametrize("execution", ["sparse", "conditional"])
def test_a_closed_path_does_not_run(inputs, execution):
    """The closed path has NaN weights: computing it and multiplying by zero would give NaN."""
    x, shortcut = inputs
    layer = multi_path(execution)
    layer.build(x.shape, (5, 2), shortcut.shape)
    for weight in layer.paths[1].weights:
        weight.assign(np.full(weight.shape, np.nan))
    gates = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [0, 0]], "float32")
    assert np.isfinite(ops.convert_to_numpy(run(layer, x, gates, shortcut))).all()
    layer.execution = "masked"
    assert np.isnan(run(layer, x, gates, shortcut)).any()


def test_sparse_form_runs_a_path_on_its_open_rows_only(inputs):
    class Recorder(layers.Layer):
        def call(self, rows):
            seen.append(ops.convert_to_numpy(rows))
            return rows

    seen, x = [], inputs[0]
    gates = np.array([[1], [0], [0], [1], [0]], "float32")
    MultiPath([Recorder()], "sparse")(x, gates, x)
    np.testing.assert_array_equal(np.concatenate(seen), x[[0, 3]])


def test_training_is_masked_and_gates_get_the_gradient_of_their_paths(inputs):
    x, shortcut = inputs
    layer = MultiPath([layers.Conv2D(5, 1), layers.Conv2D(5, 3, padding="same")])
    gates = tf.Variable(np.array(GATES["differing"], "float32"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, gates, shortcut, training=True))
    wanted = np.stack([p(x).numpy().sum((1, 2, 3)) for p in layer.paths], 1)
    np.testing.assert_allclose(tape.gradient(loss, gates), wanted, rtol=1e-4, atol=1e-4)


def test_sparse_training_gives_the_open_paths_the_masked_gradient(inputs):
    x, shortcut = inputs
    gates = np.array(GATES["differing"], "float32")
    layer = MultiPath([layers.Conv2D(5, 1), layers.Conv2D(5, 3, padding="same")])
    layer.build(x.shape, gates.shape, shortcut.shape)

    def gradients(execution):
        layer.execution = execution
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, gates, shortcut, training=True) ** 2)
        return tape.gradient(loss, [w.value for w in layer.trainable_weights])

    for a, b in zip(gradients("sparse"), gradients("masked"), strict=True):
        assert_close(a, b)


def test_frozen_keeps_its_statistics(inputs):
    x, shortcut = inputs
    layer = multi_path()
    layer.build(x.shape, (5, 2), shortcut.shape)
    layer.trainable = False
    before = layer.get_weights()
    assert layer.trainable_weights == []
    layer(x, np.ones((5, 2), "float32"), shortcut, training=True)
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_config_round_trip(inputs):
    x, shortcut = inputs
    layer = multi_path("sparse", name="m")
    copy = copy_by_config(layer)
    assert (copy.name, copy.execution, [p.name for p in copy.paths]) == ("m", "sparse", ["a", "b"])
    gates = np.array(GATES["differing"], "float32")
    layer(x, gates, shortcut), copy(x, gates, shortcut)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x, gates, shortcut), copy(x, gates, shortcut))


def test_file_round_trip(inputs, tmp_path):
    x, shortcut = inputs
    tensors = [keras.Input(shape) for shape in ((6, 6, 3), (2,), (6, 6, 5))]
    model = keras.Model(tensors, multi_path()(*tensors))
    model.save(tmp_path / "m.keras")
    arguments = [x, np.array(GATES["differing"], "float32"), shortcut]
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "m.keras")(arguments), model(arguments)
    )


def test_symbolic_shape_is_the_eager_one(inputs):
    x, shortcut = inputs
    symbolic = multi_path()(*(keras.KerasTensor((None, *s)) for s in ((6, 6, 3), (2,), (6, 6, 5))))
    eager = multi_path()(x, np.ones((5, 2), "float32"), shortcut)
    assert symbolic.shape == (None, 6, 6, 5) and eager.shape == (5, 6, 6, 5)
    assert symbolic.dtype == keras.backend.standardize_dtype(eager.dtype)


def test_macs():
    layer = multi_path()
    shape = (None, 6, 6, 3)
    layer.build(shape, (None, 2), (None, 6, 6, 5))
    one = 6 * 6 * (3 * 3 * 3 * 4 + 4 * 5)
    assert layer.inner_calls(shape) == [(path, shape) for path in layer.paths]
    assert layer.optional_macs(shape) == (one, one)
    assert layer.macs(shape) == 2 * one


@pytest.mark.parametrize("execution", ["auto", "masked", "sparse"])
def test_fit_step(inputs, execution):
    x, shortcut = inputs
    tensors = [keras.Input(shape) for shape in ((6, 6, 3), (2,), (6, 6, 5))]
    model = keras.Model(tensors, multi_path(execution)(*tensors))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    kernels = [w for w in model.trainable_weights if w.path.endswith("kernel")]
    before = [k.numpy() for k in kernels]
    arguments = [x, np.array(GATES["differing"], "float32"), shortcut]
    loss = model.fit(arguments, np.zeros_like(shortcut), verbose=0).history["loss"][0]
    assert np.isfinite(loss)
    assert len(kernels) == 4
    assert all((k.numpy() != b).any() for k, b in zip(kernels, before, strict=True))


def test_errors(inputs):
    x, shortcut = inputs
    with pytest.raises(ValueError, match="at least one path"):
        MultiPath([])
    with pytest.raises(
        ValueError,
        match="execution 'fast' is unknown; it is one of auto, masked, sparse, conditional",
    ):
        multi_path("fast")
    with pytest.raises(ValueError, match="'fast' is unknown"):
        multi_path().execution = "fast"
    with pytest.raises(ValueError, match=r"2 paths need gates of shape \(batch, 2\), not \(5, 3\)"):
        multi_path()(x, np.ones((5, 3), "float32"), shortcut)
    with pytest.raises(ValueError, match="one image a call, not 5"):
        multi_path("conditional")(x, np.ones((5, 2), "float32"), shortcut)


def test_conditional_form_on_a_batch_of_unknown_size():
    model = scatter_gates(settle(tiny(), images(8)))
    x = images(7, seed=1)
    wanted = model.predict(x, verbose=0)
    model.execution = "conditional"
    run = tf.function(
        lambda x: model(x, training=False), input_signature=[tf.TensorSpec((None, 16, 16, 3))]
    )
    np.testing.assert_allclose(run(x), wanted, atol=1e-5 * np.abs(wanted).max())
