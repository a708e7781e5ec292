from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import assert_close, compiled, images, labels, run_python
from helpers import generated as fitted
from helpers import generated_plain as plain
from keras import layers

from keras_dynnets import puppet, zoo
from keras_dynnets.families.puppet.level_batches import LevelBatches, level_batches
from keras_dynnets.families.puppet.plan import Plan
from keras_dynnets.profile import count, measure


def test_what_is_generated_and_what_can_go():
    plan = Plan(plain())
    assert [layer.name for layer in plan.convolutions] == [
        "stage1_conv0", "stage1_conv1", "stage2_conv", "block_depthwise", "block_conv", "logits"
    ]  # fmt: skip
    ends = sorted(
        (piece.turn, piece.target.shape[1:]) for piece in plan.pieces if piece.turn is not None
    )
    assert ends == [(0, (8, 8, 32)), (1, (16, 16, 16))]
    assert [len(plan.running(dropped)) for dropped in range(3)] == [6, 4, 3]
    assert {a.name: b.name for a, b in plan.folds.items()} == {
        "stage1_conv0": "stage1_bn0", "stage1_conv1": "stage1_bn1", "block_depthwise": "block_bn"
    }  # fmt: skip
    assert (plan.channels, plan.kernel_size) == (32, 3)


@pytest.mark.parametrize(
    "adapt, depths", [("none", (6,)), ("parameters", (6, 6, 6)), ("depth", (3, 4, 6))]
)
def test_forms(adapt, depths):
    model = fitted(adapt=adapt, levels=3)
    assert model.depths == depths
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 32**2 + 15 * 32
    x = images(7, seed=1)
    whole = keras.ops.convert_to_numpy(model(x))
    assert whole.shape == (7, 10) and np.isfinite(whole).all()
    assert_close(model.predict(x, verbose=0), whole)
    assert_close(np.concatenate([model(x[i : i + 1]) for i in range(7)]), whole)


def test_every_level_materialised():
    model = fitted(normalise_kernels=False, state="rank_one", method="midpoint")
    x = images(40, seed=1)
    levels = model.levels_of(x)
    assert set(levels) == {0, 1, 2, 3}
    whole = keras.ops.convert_to_numpy(model(x))
    for level in range(4):
        network = model.materialise(level)
        assert (
            len(
                [
                    layer
                    for layer in network.layers
                    if "conv" in layer.name or layer.name == "logits"
                ]
            )
            <= model.depths[level]
        )
        assert not any(isinstance(layer, layers.BatchNormalization) for layer in network.layers)
        assert_close(network(x[levels == level]), whole[levels == level])
    for bad in (4, -1, None):
        with pytest.raises(ValueError, match="levels 0 to 3"):
            model.materialise(bad)


def test_predict_follows_the_weights():
    model, x = fitted(), images(6)
    before = model.predict(x, verbose=0)
    model.puppet.ode.gamma2.assign(model.puppet.ode.gamma2 * 3)
    after = model.predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    assert_close(after, model(x))


def test_depth_follows_complexity():
    model = fitted()
    x = images(60, seed=3)
    levels, complexity = model.levels_of(x), puppet.complexity(x)
    assert (np.diff(levels[np.argsort(complexity)]) >= 0).all()
    assert model.depths == tuple(sorted(model.depths)) and model.depths[0] < model.depths[-1]
    counted = np.bincount(model.levels_of(images(80)), minlength=4)
    assert counted.min() >= 15  # as many of the images that it was calibrated on in each


def test_more_levels_come_near_to_kernels_of_each_image():
    """The exact form, of every image its own kernels, is what the levelled one tends to."""
    x = images(24, seed=2)
    exact = fitted(levels=None, adapt="parameters")
    wanted = np.asarray(exact(x))
    errors = []
    for levels in (1, 4, 32):
        model = fitted(levels=levels, adapt="parameters")
        model.puppet.ode.set_weights(exact.puppet.ode.get_weights())
        model.puppet.statistics.assign(np.repeat(exact.puppet.statistics, levels, axis=0))
        errors.append(np.abs(model(x) - wanted).mean())
    assert errors[0] > 2 * errors[1] > 8 * errors[2]
    assert_close(np.concatenate([exact(x[i : i + 1]) for i in range(24)]), wanted)
    assert_close(exact.predict(x, verbose=0), wanted)
    with pytest.raises(ValueError, match="no levels: kernels are each image's own"):
        exact.materialise(0)


@pytest.mark.parametrize("levels", [3, None])
def test_fit_learns_and_keeps_statistics_by_level(levels):
    rng = np.random.default_rng(0)
    y = labels(256, 2)
    x = np.clip(
        100
        + 60 * y[:, None, None, None]
        + rng.normal(0, rng.uniform(5, 80, (256, 1, 1, 1)), (256, 16, 16, 3)),
        0,
        255,
    )
    model = compiled(puppet.puppeteer(plain(classes=2), levels=levels))
    model.compile(keras.optimizers.Adam(0.01), model.loss, metrics=["accuracy"])
    assert not model.ranked
    before = np.array(model.puppet.statistics)
    history = model.fit(
        x.astype("float32"), y, batch_size=16, epochs=6, validation_split=0.25, verbose=0
    ).history
    assert (
        model.ranked
        and history["loss"][-1] < 0.6 * history["loss"][0]
        and history["val_accuracy"][-1] > 0.8
    )
    changed = np.abs(np.array(model.puppet.statistics) - before).max(axis=(1, 2))
    assert (changed > 0).all()


def test_batches_of_one_level():
    levels = np.array([0, 1, 1, 0, 1, 1, 1, 0])
    batches = level_batches(levels, 2, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(8)) and max(map(len, batches)) == 2
    assert all(len(set(levels[rows])) == 1 for rows in batches)
    assert len(level_batches(levels, 2, whole=True)) == 3
    data = LevelBatches([np.arange(8), np.arange(8) * 10], levels, 2)
    x, y = data[0]
    np.testing.assert_array_equal(10 * x, y)


def test_by_level_for_data_sets():
    import tensorflow as tf

    model, x = fitted(), images(40, seed=5)
    data = puppet.by_level(tf.data.Dataset.from_tensor_slices((x, labels(40))), model, 4)
    seen = 0
    for batch, _ in data:
        assert len(set(model.levels_of(batch.numpy()))) == 1
        seen += len(batch)
    assert seen == 40
    compiled(model).fit(data, verbose=0)
    with pytest.raises(ValueError, match="does not know the complexities"):
        compiled(puppet.puppeteer(plain())).fit(data)


def test_counted_and_measured():
    model, x = fitted(), images(10)
    counted = count(model)
    assert counted.params == 32**2 + 15 * 32 and counted.macs == max(counted.level_macs)
    assert [count(model.materialise(i)).macs for i in range(4)] == list(counted.level_macs)
    measured = measure(model, x)
    np.testing.assert_array_equal(measured.macs, np.array(counted.level_macs)[model.levels_of(x)])


def test_other_layers_keep_their_weights():
    x = inputs = keras.Input((16, 16, 3))
    x = layers.ReLU()(layers.Conv2D(16, 5, strides=2)(x))
    network = keras.Model(
        inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x)), name="dense_head"
    )
    model = puppet.puppeteer(network, "parameters", levels=2)
    assert {w.path for w in model.weights if "head" in w.path} == {"head/kernel", "head/bias"}
    model.calibrate(images(20))
    assert_close(model.predict(images(4), verbose=0), model(images(4)))


def test_plans_of_keras_applications():
    """What can go of networks with inverted residuals; generating kernels for 1,280 channels takes minutes here."""
    plan = Plan(keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=5))
    assert (len(plan.convolutions), plan.channels, plan.kernel_size) == (52, 1280, 3)
    assert [layer.name for layer in plan.kept if layer.weights] == ["predictions"]
    targets = {
        piece.target._keras_history.operation.name
        for piece in plan.pieces
        if piece.turn is not None
    }
    assert {"block_2_add", "block_8_add", "block_15_add"} <= targets
    assert len(plan.running(plan.droppable)) == 52 - sum(
        sum(node.operation in plan.convolutions for node in piece.nodes)
        for piece in plan.pieces
        if piece.turn is not None
    )


def test_classes_do_not_change_the_weights():
    ten, five = (zoo.load("puppet_cnn_128", weights=None, num_classes=n) for n in (10, 5))
    five.set_weights(ten.get_weights())
    with pytest.raises(ValueError, match="tells 128 classes apart at most"):
        zoo.load("puppet_cnn_128", weights=None, num_classes=200)


def test_constant_images_and_bad_input():
    model = fitted()
    flat = np.zeros((2, 16, 16, 3), "float32")
    assert list(model.levels_of(flat)) == [0, 0]
    assert np.isfinite(model.predict(flat, verbose=0)).all()
    with pytest.raises(ValueError, match="pixels that are not finite"):
        model.predict(flat * np.nan, verbose=0)
    with pytest.raises(ValueError, match=r"images of shape \(n, 16, 16, 3\)"):
        model.predict(images(2, 8), verbose=0)
    with pytest.raises(ValueError, match="levels is 1 or more"):
        puppet.puppeteer(plain(), levels=0)
    with pytest.raises(ValueError, match="adapt is one of none, parameters, depth"):
        puppet.puppeteer(plain(), "width")
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="has no convolution to generate"):
        puppet.puppeteer(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs))))
    with pytest.raises(ValueError, match="sides of at least 16"):
        zoo.load("puppet_cnn", weights=None, input_shape=(4, 4, 3))
    with pytest.raises(ValueError, match="calibration needs images"):
        model.calibrate(images(1)[:0])


def jax_run():
    """What runs in a fresh Python with JAX."""
    model, x = fitted(levels=2), images(12)
    assert_close(model.predict(x, verbose=0), model(x), 1e-4)
    compiled(model).fit(x, labels(12), batch_size=4, verbose=0)
    assert np.isfinite(model.evaluate(x, labels(12), verbose=0)).all()


def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = fitted()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.puppet.ode.dtype_policy.name == "float32"
    compiled(model).fit(images(16), labels(16), verbose=0)
    assert np.isfinite(model.predict(images(4), verbose=0)).all()


@pytest.mark.slow
def test_jax():
    pytest.importorskip("jax", reason="jax is not installed")
    here = str(Path(__file__).parent)
    run_python(
        f"import sys; sys.path.append({here!r}); import test_puppet; test_puppet.jax_run()",
        KERAS_BACKEND="jax",
    )


def user_network(*tail, head=4):
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    for layer in tail:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(head)(layers.GlobalAveragePooling2D()(x)), name="user")


def test_other_layers_are_told_whether_it_is_training():
    x = images(32)
    inner = keras.Sequential([keras.Input((16, 16, 8)), layers.BatchNormalization()], name="inner")
    model = puppet.puppeteer(user_network(layers.Dropout(0.5), inner), levels=2)
    model.calibrate(x)
    first, again = (np.asarray(model(x, training=True)) for _ in range(2))
    assert np.abs(first - again).max() > 0.01
    np.testing.assert_array_equal(model(x), model(x))
    before = np.array(inner.layers[0].moving_mean)
    compiled(model).fit(x, labels(32, 4), verbose=0)
    assert (
        np.abs(np.array(model.plan.network.get_layer("inner").layers[0].moving_mean) - before).max()
        > 0
    )
    model = puppet.puppeteer(
        user_network(layers.RandomFlip(), layers.RandomRotation(0.3)), levels=2
    )
    model.calibrate(x)
    np.testing.assert_array_equal(model(x), model(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-4)


def test_norms_behind_dense_layers_and_no_norms_at_all():
    x, y = images(32), labels(32, 4)
    inputs = keras.Input((16, 16, 3))
    z = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(inputs))
    without = keras.Model(inputs, layers.Dense(4)(z), name="without")
    model = compiled(puppet.puppeteer(without, adapt="none", levels=1))
    model.fit(x, y, verbose=0)
    z = layers.BatchNormalization()(layers.Dense(12)(z))
    model = compiled(
        puppet.puppeteer(keras.Model(inputs, layers.Dense(4)(z), name="behind"), levels=2)
    )
    model.fit(x, y, verbose=0)
    assert np.isfinite(model.evaluate(x, y, verbose=0)[0])
    assert_close(model.predict(x, verbose=0), model(x))


@pytest.mark.parametrize("adapt", ["parameters", "depth"])
def test_a_convolution_that_is_called_twice(adapt):
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    between = [
        layers.ReLU(),
        shared,
        layers.ReLU(),
        layers.Conv2D(8, 3, padding="same"),
        layers.ReLU(),
        shared,
    ]
    model = puppet.puppeteer(user_network(*between), adapt, levels=3)
    x = images(48)
    model.calibrate(x)
    assert_close(model.predict(x, verbose=0), model(x))
    assert model.plan.droppable == 1, "the one between them"


def test_files_of_another_form_are_refused(tmp_path):
    fitted(horizon=3.0).save_weights(tmp_path / "m.weights.h5")
    for options, message in (
        ({}, "horizon in thousandths .3000 there, 1000 here"),
        ({"horizon": 3.0, "seed": 5}, "seed .0 there, 5 here"),
        (
            {"horizon": 3.0, "method": "rk4", "normalise_kernels": False},
            "method .0 there, 2 here.*normalise_kernels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fitted(**options).load_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="outputs .10 there, 7 here"):
        puppet.puppeteer(plain(7), levels=4, horizon=3.0).load_weights(tmp_path / "m.weights.h5")


def test_a_depthwise_kernel_has_its_own_fan_in():
    model = puppet.puppeteer(plain(), adapt="none")
    kernels = {layer.name: np.asarray(kernel) for layer, kernel in model.puppet.kernels(0).items()}
    assert np.mean(kernels["block_depthwise"] ** 2) == pytest.approx(1 / 9, rel=0.02)
    assert np.mean(kernels["stage2_conv"] ** 2) == pytest.approx(1 / (9 * 16), rel=0.02)


def test_fit_takes_what_keras_takes():
    x, y = images(32), labels(32)
    model = compiled(fitted(levels=2))
    history = model.fit(x, y, 8, 2, 0, None, 0.25)
    assert len(history.history["val_loss"]) == 2
    assert model.predict(x, batch_size=4, steps=2, verbose=0).shape == (8, 10)
    for wrong in ({"y": y[:20]}, {"y": y, "sample_weight": np.ones(40)}):
        with pytest.raises(ValueError, match="as many, not 32, "):
            model.fit(x, verbose=0, **wrong)


def test_an_image_that_is_no_number_gives_no_logits():
    model = fitted()
    x = images(6)
    x[2, 0, 0, 0] = np.nan
    assert (
        np.isnan(np.asarray(model(x))[2]).all()
        and np.isfinite(np.asarray(model(x))[[0, 1, 3, 4, 5]]).all()
    )


def test_by_level_refuses():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((images(8), labels(8)))
    with pytest.raises(ValueError, match="does not know the complexities"):
        puppet.by_level(data, puppet.puppeteer(plain()), 4)
    with pytest.raises(ValueError, match=r"single images, .* dataset.unbatch\(\)"):
        puppet.by_level(data.batch(4), fitted(), 4)


def test_a_loss_inside_keeps_its_layers():
    between = [
        layers.Conv2D(8, 3, padding="same"),
        layers.ActivityRegularization(l2=0.01),
        layers.ReLU(),
    ]
    model = compiled(puppet.puppeteer(user_network(*between), levels=2))
    assert model.plan.droppable == 0
    assert np.isfinite(model.fit(images(16), labels(16, 4), verbose=0).history["loss"]).all()
