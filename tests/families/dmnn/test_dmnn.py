import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_close,
    compiled,
    crossentropy,
    force_gates,
    gates_of,
    images,
    labels,
    layers_of,
    run_python,
    scatter_gates,
    settle,
    tiny,
)

from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.layers import BatchNormalization, MultiPath, PathController

CATEGORIES = (0, 0, 1, 1, 2, 2, 3, 3, 3, 0)
DMNN20 = dict(backbone="resnet20", num_classes=10, input_shape=(32, 32, 3))


def training_outputs(model, x):
    """Gives what the network computes in a training step: logits, gates and category logits."""
    return model.training_network()(x, training=True)


def values(weights):
    return {w.path: w.numpy() for w in weights}


def unchanged(before, after):
    return [path for path in before if (before[path] == after[path]).all()]


@pytest.fixture(scope="module")
def dmnn20():
    """The DMNN of ResNet-20, with gates that differ between images. Tests only read it."""
    keras.utils.set_random_seed(1)
    return scatter_gates(settle(DMNN(**DMNN20), images(16, 32)))


# ---- three ways to run, one answer


def test_gates_differ_between_images(dmnn20):
    gates = gates_of(dmnn20, images(12, 32))
    assert set(np.unique(gates)) == {0, 1}
    assert 0.2 < gates.mean() < 0.8
    assert len(np.unique(gates.reshape(12, -1), axis=0)) >= 6


def forms(model, x):
    """Gives the logits by every form of execution, eagerly and by `predict`."""
    answers = {}
    for execution in ("masked", "sparse", "auto"):
        model.execution = execution
        answers[execution] = model(x)
    answers["auto predict"] = model.predict(x, verbose=0)
    model.execution = "conditional"
    answers["conditional"] = np.concatenate([model(x[i : i + 1]) for i in range(len(x))])
    model.execution = "auto"
    answers["auto, one by one"] = np.concatenate([model(x[i : i + 1]) for i in range(len(x))])
    return answers


def assert_one_answer(answers):
    for answer in answers.values():
        assert_close(answer, answers["masked"])


@pytest.mark.slow
def test_forms_agree(dmnn20):
    assert_one_answer(forms(dmnn20, images(12, 32)))


PATTERNS = {
    "all off": [[0, 0], [0, 0], [0, 0]],
    "all on": [[1, 1], [1, 1], [1, 1]],
    "empty groups": [[1, 0], [0, 0], [0, 1]],
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_forms_agree_on_forced_gates(pattern):
    model = force_gates(settle(tiny(), images(8)), pattern)
    x = images(3, seed=1)
    np.testing.assert_array_equal(gates_of(model, x), [pattern] * 3)
    assert_one_answer(forms(model, x))


def test_all_off_leaves_stem_shortcuts_and_head():
    model = force_gates(settle(tiny(), images(8)), PATTERNS["all off"])
    x = images(2, seed=1)
    features = x
    for name in ("normalise", "stem_conv", "stem_bn", "stem_relu"):
        features = model.get_layer(name)(features)
    for name in ("stage2_block1_shortcut", "stage2_block1_shortcut_bn"):
        features = model.get_layer(name)(features)
    wanted = model.get_layer("logits")(model.get_layer("pool")(tf.nn.relu(features)))
    assert_close(model(x), wanted)


def test_execution_all_is_every_gate_open():
    model = scatter_gates(settle(tiny(), images(8)))
    x = images(4, seed=1)
    model.execution = "all"
    answer = model(x)
    model.execution = "masked"
    assert_close(answer, force_gates(model, PATTERNS["all on"])(x))


def test_forms_agree_after_a_change_of_form():
    """Traced functions hold `execution` as a constant, so setting it must have them traced anew."""
    model = scatter_gates(settle(tiny(), images(8)))
    x = images(4, seed=1)
    before = model.predict(x, verbose=0)
    with pytest.raises(ValueError, match="one image a call"):
        model.execution = "conditional"
        model.predict(x, verbose=0)
    model.execution = "masked"
    assert_close(model.predict(x, verbose=0), before)


def test_execution_is_checked():
    with pytest.raises(ValueError, match="'fast' is unknown"):
        tiny().execution = "fast"


# ---- counts


def dmnn20_costs_by_hand():
    """Gives the MACs without the paths, the MACs of a path of each block, and the parameters."""
    fixed, paths = 32**2 * 9 * 3 * 16 + 640, []
    params = 9 * 3 * 16 + 2 * 16 + 640 + 10
    channels, side = 16, 32
    for width in (16, 32, 64):
        for _ in range(3):
            if width != channels:
                side //= 2
                fixed += side**2 * channels * width
                params += channels * width + 2 * width
            state = 0 if not paths else 32 * 32
            fixed += channels * 32 + state + 32 * 2
            params += channels * 32 + 32 + state + 32 * 4 + 4
            kernels = 9 * channels * width // 2 + 9 * width // 2 * width
            paths.append(side**2 * kernels)
            params += 2 * (kernels + 2 * width // 2 + 2 * width)
            channels = width
    return fixed, paths, params


def test_macs_and_parameters_by_hand(dmnn20):
    fixed, paths, params = dmnn20_costs_by_hand()
    assert dmnn20.fixed_macs == fixed
    np.testing.assert_array_equal(dmnn20.path_macs, np.stack([paths, paths], 1))
    assert sum(int(np.prod(w.shape)) for w in dmnn20.trainable_weights) == params


def test_macs_of_gates(dmnn20):
    fixed, paths, _ = dmnn20_costs_by_hand()
    gates = np.random.default_rng(0).integers(0, 2, (5, 9, 2))
    wanted = [
        fixed + sum(p * g for p, row in zip(paths, image, strict=True) for g in row)
        for image in gates
    ]
    np.testing.assert_array_equal(dmnn20.macs_of(gates), wanted)


# ---- losses


def resource_loss_by_hand(model, gates, rate):
    """Computes equations 11 to 15 in NumPy."""
    gates = np.asarray(gates, "float64")
    batch, _, sub_blocks = gates.shape
    z = gates.sum((0, 2)) / (batch * sub_blocks)
    f = np.mean([model.fixed_macs + (image * model.path_macs).sum() for image in gates])
    f_total = model.fixed_macs + model.path_macs.sum()
    return ((rate - z) ** 2).sum() + (f / f_total - rate) ** 2


@pytest.mark.parametrize("rate, weight", [(0.7, 1.0), (0.4, 0.5)])
def test_resource_loss_by_hand(rate, weight):
    model = scatter_gates(
        settle(tiny(target_rate=rate, resource_weight=weight, gate_noise=0), images(8))
    )
    x = images(10, seed=1)
    gates = training_outputs(model, x)["gates"]
    assert 0 < keras.ops.convert_to_numpy(gates).mean() < 1
    model(x, training=True)
    (loss,) = model.losses
    np.testing.assert_allclose(loss, weight * resource_loss_by_hand(model, gates, rate), rtol=1e-5)


def test_fit_adds_the_resource_loss():
    model = compiled(scatter_gates(settle(tiny(gate_noise=0, target_rate=0.3), images(8))))
    x, y = images(10, seed=1), labels(10)
    outputs = training_outputs(model, x)
    wanted = crossentropy()(y, outputs["logits"]) + resource_loss_by_hand(
        model, outputs["gates"], 0.3
    )
    np.testing.assert_allclose(
        model.fit(x, y, batch_size=10, verbose=0).history["loss"], [wanted], rtol=1e-4
    )


def test_resource_loss_moves_the_rate_to_its_target():
    model = tiny(target_rate=0.3, seed=1)
    model.compile(keras.optimizers.Adam(0.03), crossentropy())
    x, y = images(32), labels(32)
    rates = model.fit(x, y, batch_size=16, epochs=40, verbose=0).history["execution_rate"]
    assert rates[0] > 0.6
    assert abs(np.mean(rates[-5:]) - 0.3) < 0.15


def test_own_training_loop_gets_logits_and_the_resource_loss():
    for model in (tiny(gate_noise=0), compiled(tiny(gate_noise=0))):  # compiled or not
        x, y = images(8), labels(8)
        settle(model, x)
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = crossentropy()(y, logits) + tf.add_n(model.losses)
        assert logits.shape == (8, 10)
        assert len(model.losses) == 1
        wanted = resource_loss_by_hand(model, training_outputs(model, x)["gates"], 0.7)
        np.testing.assert_allclose(model.losses[0], wanted, rtol=1e-4)
        gradients = tape.gradient(
            loss, [c.logits.bias.value for c in layers_of(model, PathController)]
        )
        assert all(np.abs(g).max() > 0 for g in gradients)


def test_inference_has_no_extra_loss():
    model = tiny()
    model(images(4), training=True)
    model(images(4))
    assert model.losses == []


# ---- plain Keras


def test_metrics_appear_in_fit_and_not_in_evaluate():
    model = compiled(scatter_gates(settle(tiny(gate_noise=0), images(8))))
    x, y = images(8, seed=1), labels(8)
    gates = np.asarray(training_outputs(model, x)["gates"])
    history = model.fit(x, y, batch_size=8, validation_data=(x, y), verbose=0).history
    assert set(history) == {
        "loss",
        "accuracy",
        "execution_rate",
        "macs_share",
        "val_loss",
        "val_accuracy",
        "val_execution_rate",
        "val_macs_share",
    }
    np.testing.assert_allclose(history["execution_rate"], [gates.mean()], rtol=1e-5)
    share = model.macs_of(gates).mean() / model.macs_of(np.ones_like(gates)).mean()
    np.testing.assert_allclose(history["macs_share"], [share], rtol=1e-5)
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(evaluated) == {"loss", "accuracy", "execution_rate", "macs_share"}
    np.testing.assert_allclose(evaluated["loss"], crossentropy()(y, model(x)), rtol=1e-5)
    assert evaluated["accuracy"] == np.mean(np.argmax(model(x), -1) == y)


@pytest.mark.parametrize("categories", [None, CATEGORIES])
def test_every_kind_of_label_gives_the_same_loss(categories):
    x = images(10)
    # As many images as classes: integers must not be taken for a one-hot row.
    y = labels(10)[::-1].copy()
    one_hot = np.eye(10, dtype="float32")[y]
    model = scatter_gates(settle(tiny(gate_noise=0, categories=categories), x))
    start = model.get_weights()

    def loss(loss, targets):
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
        return model.train_on_batch(x, targets)

    integer = loss(crossentropy(), y)
    np.testing.assert_allclose(loss(crossentropy(), y[:, None]), integer, rtol=1e-5)
    np.testing.assert_allclose(loss(crossentropy(), y.astype("int64")), integer, rtol=1e-5)
    np.testing.assert_allclose(
        loss(keras.losses.CategoricalCrossentropy(from_logits=True), one_hot), integer, rtol=1e-5
    )


def test_sample_weight():
    model = compiled(tiny(gate_noise=0, resource_weight=0, categories=CATEGORIES), 0.0)
    x, y = images(8), labels(8)
    plain = model.train_on_batch(x, y, return_dict=True)["loss"]
    double = model.train_on_batch(x, y, sample_weight=np.full(8, 2.0), return_dict=True)["loss"]
    np.testing.assert_allclose(double, 2 * plain, rtol=1e-4)


def test_a_seeded_run_repeats():
    def trained(seed):
        keras.utils.set_random_seed(3)
        model = compiled(tiny(seed=seed))
        model.fit(images(16), labels(16), batch_size=4, epochs=2, verbose=0)
        return model.get_weights()

    first, again, other = trained(5), trained(5), trained(6)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_controllers_draw_different_noise():
    model = tiny(seed=5)
    seeds = [c.gate.seed for c in layers_of(model, PathController)]
    assert len(set(seeds)) == len(seeds) == 3


def test_inside_a_sequential_model():
    """A user trains a DMNN and then puts it into a model of their own."""
    inner = compiled(tiny(seed=1))
    inner.fit(images(8), labels(8), verbose=0)
    model = keras.Sequential([keras.layers.RandomFlip(seed=1), inner])
    model.compile(keras.optimizers.SGD(0.01), crossentropy(), metrics=["accuracy"])
    before = values(inner.trainable_weights)
    history = model.fit(images(8), labels(8), verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    assert history["loss"][0] > crossentropy()(labels(8), model(images(8))) * 0.1
    assert unchanged(before, values(inner.trainable_weights)) == []
    assert model.predict(images(3), verbose=0).shape == (3, 10)
    assert inner.fit(images(8), labels(8), verbose=0).history["execution_rate"][0] > 0


def test_nested_model_adds_the_resource_loss():
    inner = tiny(gate_noise=0, resource_weight=1000.0)
    model = compiled(keras.Sequential([keras.layers.Rescaling(1.0), inner]))
    wanted = 1000 * resource_loss_by_hand(inner, training_outputs(inner, images(8))["gates"], 0.7)
    loss = model.fit(images(8), labels(8), batch_size=8, verbose=0).history["loss"][0]
    assert wanted > 100
    assert wanted < loss < wanted + 10  # and the cross-entropy


@pytest.mark.slow
def test_half_precision(half_precision, tmp_path):
    model = compiled(DMNN(**DMNN20, seed=1))
    x, y = images(8, 32), labels(8)
    assert {p.compute_dtype for m in layers_of(model, MultiPath) for p in m.paths} == {"float16"}
    before = values(model.trainable_weights)
    history = model.fit(x, y, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert unchanged(before, values(model.trainable_weights)) == []
    logits = keras.ops.convert_to_numpy(model(x))
    assert logits.dtype == "float32" and np.isfinite(logits).all()
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "m.keras")(x), logits)


# ---- freezing


def test_frozen_blocks_keep_their_weights_and_statistics():
    model = tiny(seed=1)
    frozen = layers_of(model, MultiPath)
    for layer in frozen:
        layer.trainable = False
    before, rest = (
        values([w for layer in frozen for w in layer.weights]),
        values(model.trainable_weights),
    )
    assert any(path.endswith("moving_mean") for path in before)
    compiled(model).fit(images(8), labels(8), verbose=0)
    assert unchanged(before, values([w for layer in frozen for w in layer.weights])) == list(before)
    assert unchanged(rest, values(model.trainable_weights)) == []


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_frozen_model_keeps_everything_and_draws_no_noise():
    model = scatter_gates(settle(tiny(seed=1), images(8)))
    model.trainable = False
    before = values(model.weights)
    compiled(model).fit(images(8), labels(8), verbose=0)
    assert unchanged(before, values(model.weights)) == list(before)
    x = images(6, seed=1)
    assert_close(model(x, training=True), model(x, training=False))


def test_sparse_training_with_frozen_controllers():
    """With frozen controllers the sparse form, which skips work, has the loss of the masked."""
    model = scatter_gates(settle(tiny(seed=1, resource_weight=0), images(8)))
    for norm in layers_of(model, BatchNormalization):
        norm.trainable = False
    for controller in layers_of(model, PathController):
        controller.trainable = False
    controllers = values([w for c in layers_of(model, PathController) for w in c.weights])
    start, losses, idle = model.get_weights(), [], []
    for execution in ("masked", "sparse"):
        model.set_weights(start)
        before = values(model.trainable_weights)
        model.execution = execution
        compiled(model).fit(images(8, seed=1), labels(8), batch_size=8, verbose=0)
        losses.append(model.evaluate(images(8, seed=1), labels(8), verbose=0)[0])
        idle.append(unchanged(before, values(model.trainable_weights)))
        assert unchanged(controllers, values(model.weights)) == list(controllers)
    assert idle[0] == idle[1]  # the weights of paths that no image takes do not change
    assert len(idle[0]) < len(before) / 2 and "stem_conv/kernel" not in idle[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# ---- categories


def test_category_loss_by_hand():
    model = scatter_gates(
        settle(tiny(gate_noise=0, resource_weight=0, categories=CATEGORIES), images(8))
    )
    assert model.category_weights == pytest.approx([1e-4, 1e-1, 1e-1])
    x, y = images(8, seed=1), labels(8)
    outputs = training_outputs(model, x)
    coarse = np.array(CATEGORIES)[y]
    wanted = crossentropy()(y, outputs["logits"]) + sum(
        weight * crossentropy()(coarse, head)
        for weight, head in zip(model.category_weights, outputs["categories"], strict=True)
    )
    model.compile(keras.optimizers.SGD(0.0), crossentropy())
    np.testing.assert_allclose(
        model.train_on_batch(x, y, return_dict=True)["loss"], wanted, rtol=1e-5
    )


def test_category_weights_are_the_paper_s_for_four_stages():
    model = DMNN("resnet50_cifar", num_classes=10, input_shape=(32, 32, 3), categories=CATEGORIES)
    assert model.category_weights == pytest.approx(
        [1e-4] * 3 + [1e-3] * 4 + [1e-2] * 6 + [1e-1] * 3
    )


def test_categories_train_their_heads_and_inference_does_without(tmp_path):
    model = settle(tiny(categories=CATEGORIES, seed=1), images(8))
    heads = [w for w in model.trainable_weights if "category" in w.path]
    assert len(heads) == 6 and {w.shape[-1] for w in heads} == {4}
    x, before = images(8), values(heads)
    compiled(model, 0.1).fit(x, labels(8), verbose=0)
    assert unchanged(before, values(heads)) == []
    logits = model(x)
    for head in heads:
        head.assign(np.full(head.shape, np.nan))
    np.testing.assert_array_equal(model(x), logits)
    assert not any("category" in w.path for w in model.with_gates().weights)


def test_categories_do_not_count():
    assert tiny(categories=CATEGORIES).fixed_macs == tiny().fixed_macs


def test_categories_as_an_array_survive_a_file(tmp_path):
    model = tiny(categories=np.array(CATEGORIES))
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert tuple(copy.categories) == CATEGORIES
    assert_close(copy(images(3)), model(images(3)))


# ---- config and files


def test_config_round_trip():
    arguments = dict(
        backbone="tiny",
        sub_blocks=4,
        num_classes=10,
        input_shape=(24, 16, 3),
        target_rate=0.4,
        categories=CATEGORIES,
        resource_weight=0.5,
        gate_noise=0.25,
        seed=9,
        name="n",
    )
    config = DMNN(**arguments).get_config()
    assert {name: config[name] for name in arguments} == arguments
    assert DMNN.from_config(config).get_config() == config


def test_a_saved_training_goes_on(tmp_path):
    model = compiled(tiny(seed=1))
    x, y = images(8), labels(8)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(copy(x), model(x))
    assert copy.optimizer.iterations == model.optimizer.iterations == 1
    assert "execution_rate" in copy.fit(x, y, verbose=0).history


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_keeps_what_is_frozen(tmp_path, whole):
    model = tiny()
    for layer in (
        [model]
        if whole
        else [model.get_layer("stem_bn"), layers_of(model, MultiPath)[1].paths[0].layers[2]]
    ):
        layer.trainable = False
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert [w.path for w in copy.trainable_weights] == [w.path for w in model.trainable_weights]
    assert copy.trainable is not whole and len(copy.trainable_weights) < len(
        tiny().trainable_weights
    )


def test_a_file_keeps_its_precision(tmp_path, half_precision):
    model = tiny()
    model.save(tmp_path / "m.keras")
    keras.config.set_dtype_policy("float32")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    policies = [layer.dtype_policy.name for layer in copy._flatten_layers()]
    assert (
        policies == [layer.dtype_policy.name for layer in model._flatten_layers()]
        and "mixed_float16" in policies
    )
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("name, value", [("gate_noise", 30.0), ("resource_weight", 0.25)])
def test_settings_act_on_the_next_fit(name, value):
    model = compiled(scatter_gates(settle(tiny(gate_noise=0, resource_weight=0), images(8))), 0.0)
    x, y = images(8), labels(8)
    start = model.get_weights()
    first = model.fit(x, y, shuffle=False, verbose=0).history
    setattr(model, name, value)
    assert getattr(model, name) == value
    model.set_weights(start)
    second = model.fit(x, y, shuffle=False, verbose=0).history
    assert first["loss"] != second["loss"]


# ---- exports


def test_gates_are_an_output_of_a_file_on_request():
    model, x = scatter_gates(settle(tiny(), images(8))), images(4, seed=1)
    assert model.deployments().outputs == ("logits",)
    deployment = model.deployments(gates=True)
    assert deployment.outputs == ("logits", "gates")
    found = deployment.single(x)
    assert_close(found["logits"], model(x))
    np.testing.assert_array_equal(found["gates"], gates_of(model, x))
    with pytest.raises(ValueError, match="or False, not 'yes'"):
        model.deployments(gates="yes")
    with pytest.raises(ValueError, match="no option levels; it has gates"):
        model.deployments(levels=[0])


# ---- bad arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"backbone": "resnet18"}, "'resnet18' is unknown; it is one of resnet20, resnet18_cifar"),
        ({"sub_blocks": 1}, "2, 3 or 4, not 1"),
        ({"sub_blocks": 5}, "2, 3 or 4, not 5"),
        ({"sub_blocks": 3}, "width 16 does not split into 3"),
        (
            {"backbone": "mobilenetv2", "sub_blocks": 3, "input_shape": (32, 32, 3)},
            "32 hidden channels, .* into 3",
        ),
        ({"num_classes": 0}, "num_classes must be 1 or more, not 0"),
        ({"target_rate": 0}, "above 0 and at most 1, not 0"),
        ({"target_rate": 1.01}, "above 0 and at most 1, not 1.01"),
        ({"target_rate": float("nan")}, "above 0 and at most 1, not nan"),
        ({"categories": (0, 1)}, "10 integers from 0, not 2 values"),
        ({"categories": ()}, "10 integers from 0, not 0 values"),
        ({"categories": (-1,) * 10}, "from -1"),
        ({"gate_noise": -1}, "0 or more, not -1"),
    ],
    ids=str,
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DMNN(**{**DMNN20, **arguments})


def test_target_rate_of_one_is_allowed():
    model = force_gates(tiny(target_rate=1.0, gate_noise=0), PATTERNS["all on"])
    model(images(2), training=True)
    np.testing.assert_allclose(model.losses[0], 0, atol=1e-6)


# ---- more than one device, other backends

MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import contextlib, json, keras, numpy as np
from helpers import *
from keras_dynnets.layers import BatchNormalization

keras.utils.set_random_seed(0)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x, y = images(16), labels(16)

def make():
    model = tiny(gate_noise=0, target_rate=0.3, categories=[0] * 5 + [1] * 5)
    # Frozen, because in Keras each replica has batch-norm statistics of its own part of the batch.
    for norm in layers_of(model, BatchNormalization):
        norm.trainable = False
    # A small step: after a large one the rounding of the first decides the second.
    return compiled(model, 0.01)

single = make()
for norm in layers_of(single, BatchNormalization):
    norm.trainable = True
settle(single, x)
for norm in layers_of(single, BatchNormalization):
    norm.trainable = False
scatter_gates(single)
with strategy.scope():
    mirrored = make()
mirrored.set_weights(single.get_weights())
start = [w.numpy() for w in single.trainable_weights]
gates = gates_of(single, x)
result = {"rates": [gates[:8].mean(0).tolist(), gates[8:].mean(0).tolist()]}

def compare(count, batch_size):
    # Trains both by `fit` from the same start. Gives their histories, the largest change of a
    # weight, and the largest difference between the two.
    histories, ends = [], []
    for model in (single, mirrored):
        for weight, value in zip(model.trainable_weights, start):
            weight.assign(value)
        fit = model.fit(x[:count], y[:count], batch_size=batch_size, shuffle=False, verbose=0)
        histories.append(fit.history)
        ends.append([w.numpy() for w in model.trainable_weights])
    far = lambda a, b: max(float(np.abs(u - v).max()) for u, v in zip(a, b))
    return histories, far(start, ends[0]), far(*ends)

# Two steps on equal parts of the batch are those of one device, with batch norm and noise off.
result["fit"] = compare(16, 8)
result["evaluate"] = [m.evaluate(x, y, verbose=0) for m in (single, mirrored)]

# The resource loss alone, also on parts of different size: 4 + 4 images, then 4 + 1.
# (The first batch must have equal parts, because Keras's symbolic build adds them up.)
for model in (single, mirrored):
    model.category_weights = [0.0] * 3
    with strategy.scope() if model is mirrored else contextlib.nullcontext():
        model.compile(keras.optimizers.SGD(0.1), lambda y, logits: 0.0 * keras.ops.sum(logits, -1))
result["resource"] = compare(13, 8)

# A training as users run it, with batch norm and noise.
with strategy.scope():
    plain = compiled(tiny(seed=1))
result["plain"] = plain.fit(x, y, batch_size=8, epochs=2, verbose=0).history
print("RESULT", json.dumps(result))
"""


@pytest.mark.slow
def test_mirrored_strategy_equals_one_device():
    import json

    result = json.loads(run_python(MIRRORED).split("RESULT")[1])
    first, second = result["rates"]
    assert first != second, "the parts must differ for this test to say anything"
    for case, names in (
        ("fit", {"loss", "accuracy", "execution_rate", "macs_share"}),
        ("resource", {"loss"}),
    ):
        (single, mirrored), moved, apart = result[case]
        assert names <= set(single) and set(single) == set(mirrored)
        for name in names:
            np.testing.assert_allclose(mirrored[name], single[name], rtol=1e-4)
        assert apart < 1e-4 * moved
    np.testing.assert_allclose(*result["evaluate"], rtol=1e-3)
    assert np.isfinite(result["plain"]["loss"]).all()
    assert all(0 < rate < 1 for rate in result["plain"]["execution_rate"])


JAX = """
import keras, numpy as np
from helpers import *
assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
x, y = images(8), labels(8)
model = compiled(tiny(seed=1, categories=[0] * 5 + [1] * 5))
before = [w.copy() for w in map(np.asarray, model.trainable_weights)]
history = model.fit(x, y, epochs=2, verbose=0).history
assert set(history) == {"loss", "accuracy", "execution_rate", "macs_share"}, history
assert np.isfinite(history["loss"]).all()
assert all((np.asarray(w) != b).any() for w, b in zip(model.trainable_weights, before))
scatter_gates(model)
logits = model.predict(x, verbose=0)
assert 0 < gates_of(model, x).mean() < 1
assert_close(np.concatenate([model(x[i : i + 1]) for i in range(8)]), logits)
assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}
model.save("FILE")
assert_close(keras.saving.load_model("FILE").predict(x, verbose=0), logits)
"""


@pytest.mark.slow
def test_jax_smoke(tmp_path):
    pytest.importorskip("jax", reason="jax is not installed")
    run_python(JAX.replace("FILE", str(tmp_path / "m.keras")), KERAS_BACKEND="jax")
