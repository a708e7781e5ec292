import keras
import numpy as np
import pytest
from helpers import compiled, crossentropy, images, labels
from helpers import detachable_base as base
from keras import layers

from keras_dynnets import cnsn
from keras_dynnets.families.cnsn.model import CNSN
from keras_dynnets.layers import SlicedBatchNormalization
from keras_dynnets.profile import count

CUTS = ("stage1", "stage2")
X, Y = images(24), labels(24)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return CNSN(base(), CUTS)


@pytest.fixture(scope="module")
def wide():
    """With widths, after some training."""
    keras.utils.set_random_seed(0)
    model = compiled(CNSN(base(), CUTS, widths=(1.0, 0.5)), jit_compile=False)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, validation_data=(X, Y))
    return model


def test_the_whole_predicts_what_the_base_does(model):
    wanted = model.base.predict(X, verbose=0)
    np.testing.assert_array_equal(model.predict(X, verbose=0), wanted)
    np.testing.assert_allclose(model(X), wanted, atol=1e-5)
    assert model.compute_output_shape((None, 16, 16, 3)) == (None, 10)


def test_detached_models_share_variables(model):
    small = compiled(model.detach(2), 0.1, jit_compile=False)
    ours = {id(v) for v in model.variables}
    assert all(id(v) in ours for v in small.variables)
    before = model.base.get_layer("stage3_conv").get_weights()[0]
    first = model.base.get_layer("stage1_conv").get_weights()[0]
    small.fit(X, Y, verbose=0)
    assert np.any(model.base.get_layer("stage3_conv").get_weights()[0] != before)
    assert not np.any(model.base.get_layer("stage1_conv").get_weights()[0] != first)


def test_a_detached_model_is_the_step_down_and_the_tail(model):
    part = model.detach(2)
    entrance = model.get_layer("step_down2")
    x = entrance(model.base.get_layer("normalise")(X))
    block = model.base
    y = block.get_layer("stage3_conv")(x)
    norm = next(layer for layer in part.layers if isinstance(layer, SlicedBatchNormalization))
    logits = block.get_layer("logits")(keras.ops.mean(x + norm(y), (1, 2)))
    np.testing.assert_allclose(part.predict(X, verbose=0), logits, atol=1e-4)


def test_widths_use_the_first_filters(wide):
    half = wide.detach(0, 0.5)
    x = wide.base.get_layer("normalise")(X)
    conv = wide.base.get_layer("stage1_conv")
    first = keras.ops.conv(x, conv.kernel[..., :4], padding="same") + conv.bias[:4]
    tapped = keras.Model(half.input, half.get_layer("stage1_conv_w50").output)
    np.testing.assert_allclose(tapped.predict(X, verbose=0), first, atol=1e-4)
    assert half.output_shape == (None, 10)
    counts = {name: count(wide.part(name)) for name in wide.names}
    assert counts["base_w50"].params < counts["base"].params / 2
    assert counts["sub2_w50"].macs < counts["sub2"].macs / 2


@pytest.mark.parametrize("batch_norm", ["own", "shared"])
def test_statistics_are_own_or_shared(batch_norm):
    model = compiled(CNSN(base(), CUTS, batch_norm=batch_norm), jit_compile=False)
    model.fit(X, Y, verbose=0)
    own = [layer for layer in model.layers if isinstance(layer, SlicedBatchNormalization)]
    assert len(own) == (3 if batch_norm == "own" else 0)
    for layer in own:
        assert np.any(np.asarray(layer.moving_mean) != np.asarray(layer.of.moving_mean))


def test_metrics_and_recorded_accuracy(wide):
    results = wide.evaluate(X, Y, verbose=0, return_dict=True)
    assert wide.names == ("base", "sub1", "sub2", "base_w50", "sub1_w50", "sub2_w50")
    for name in wide.names:
        part = wide.part(name).predict(X, verbose=0)
        assert results[f"{name}_accuracy"] == pytest.approx((part.argmax(-1) == Y).mean(), abs=1e-6)
        assert results[f"{name}_loss"] == pytest.approx(float(crossentropy()(Y, part)), abs=1e-4)
        assert wide.accuracy[name] == pytest.approx(results[f"{name}_accuracy"])


def test_the_loss_is_the_weighted_sum(model):
    weights = (1.0, 0.5, 2.0)
    model.compile("sgd", crossentropy(), loss_weights=weights)
    wanted = sum(
        w * float(crossentropy()(Y, model.part(n)(X)))
        for w, n in zip(weights, model.names, strict=True)
    )
    assert model.evaluate(X, Y, verbose=0, return_dict=True)["loss"] == pytest.approx(
        wanted, rel=1e-5
    )


def test_a_loss_for_each_by_name(model):
    model.compile(
        "sgd",
        dict(
            zip(
                model.names,
                (crossentropy(), "sparse_categorical_crossentropy", crossentropy()),
                strict=True,
            )
        ),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="hits")],
    )
    history = model.fit(X, Y, verbose=0).history
    assert {"base_hits", "sub1_hits", "sub2_hits"} <= set(history)


def test_distillation(model):
    logits = {name: np.asarray(model.part(name)(X)) for name in model.names}
    plain = model.compute_loss
    model.compile("sgd", crossentropy(), run_eagerly=True)
    without = float(plain(X, Y, logits, training=True))
    model.distillation, model.temperature = 0.5, 2.0
    soft = keras.ops.softmax(logits["base"] / 2)
    entropy = [
        -np.sum(soft * np.asarray(keras.ops.log_softmax(logits[n] / 2)), -1).mean()
        for n in ("sub1", "sub2")
    ]
    assert float(plain(X, Y, logits, training=True)) == pytest.approx(
        without + 0.5 * 4 * sum(entropy), rel=1e-5
    )
    assert float(plain(X, Y, logits, training=False)) == pytest.approx(without)


def test_distillation_does_not_teach_the_base():
    """By the distillation loss alone, the first stage, which no sub-model has, does not change."""
    model = CNSN(base(), CUTS, distillation=1.0, loss_weights=(0, 0, 0))
    compiled(model, 1.0, jit_compile=False)
    before = (
        model.get_layer("stage1_conv").get_weights()[0],
        model.get_layer("step_down1").get_weights()[0],
    )
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model.get_layer("stage1_conv").get_weights()[0], before[0])
    assert np.any(model.get_layer("step_down1").get_weights()[0] != before[1])


def test_calibration_sets_statistics_of_all_images(wide):
    norms = [layer for layer in wide.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    wide.calibrate(X, batch_size=8)
    assert [norm.momentum for norm in norms] == momenta
    for name in ("base", "sub2_w50"):
        part = wide.part(name)
        first = next(layer for layer in part.layers if isinstance(layer, layers.BatchNormalization))
        producer = (
            first._inbound_nodes[0]
            if name != "base"
            else wide.base.get_layer(first.name)._inbound_nodes[0]
        )
        values = keras.Model(part.input, producer.arguments.keras_tensors[0]).predict(X, verbose=0)
        np.testing.assert_allclose(first.moving_mean, values.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="calibration needs images"):
        wide.calibrate(X[:0])


def test_file_round_trip(wide, tmp_path):
    wide.get_layer("stage1_conv").trainable = False
    wide.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    wide.get_layer("stage1_conv").trainable = True
    assert type(copy) is CNSN and copy.accuracy == wide.accuracy and copy.names == wide.names
    assert not copy.get_layer("stage1_conv").trainable and copy.get_layer("stage2_conv").trainable
    for name in wide.names:
        np.testing.assert_array_equal(
            copy.part(name).predict(X, verbose=0), wide.part(name).predict(X, verbose=0)
        )
    copy.fit(X, Y, verbose=0)  # compiled as it was
    assert copy.metrics_names == wide.metrics_names


def test_a_detached_model_round_trips(wide, tmp_path):
    part = wide.detach(1, 0.5)
    part.save(tmp_path / "part.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "part.keras").predict(X, verbose=0),
        part.predict(X, verbose=0),
    )


def test_a_head_of_ones_own_and_nesting(model):
    inputs = keras.Input((16, 16, 3))
    outer = compiled(keras.Model(inputs, layers.Dense(2)(model(inputs))), jit_compile=False)
    outer.fit(X, Y % 2, verbose=0)
    assert outer.predict(X, verbose=0).shape == (24, 2)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(CNSN(base(), CUTS, widths=(1, 0.5)), jit_compile=False)
        assert model.get_layer("step_down1").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    model.fit(X, Y, verbose=0)
    assert np.isfinite(model.predict(X, verbose=0)).all()


def test_detachable_keeps_the_bases_weights():
    own = base()
    model = cnsn.detachable(own, ["stage1_pool"])
    np.testing.assert_array_equal(model.predict(X, verbose=0), own.predict(X, verbose=0))
    assert model.name == "small" and model.names == ("base", "sub1")


def test_sequential_models():
    own = keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model = cnsn.detachable(own, ["conv"], widths=0.5)
    assert model.detach(1, 0.5).output_shape == (None, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(cuts=["stage2", "stage1"]), "in the order of the network"),
        (dict(cuts=["stage1", "stage1_pool"]), "given once each"),
        (
            dict(cuts=["elsewhere"]),
            "no layer 'elsewhere', nor a block of that name; legal cuts are 'stage1_conv'",
        ),
        (
            dict(cuts=["stage3_bn"]),
            "needs more than its result: stage2_pool; the nearest legal cuts are 'stage2_pool', "
            "'stage3_add'",
        ),
        (dict(), "nothing would detach"),
        (
            dict(cuts=CUTS, widths=(1.0, 0.1)),
            "width 0.1 leaves no filters of the 8 of layer 'stage1_conv'",
        ),
        (dict(cuts=CUTS, widths=(0, 1)), "above 0 and at most 1"),
        (dict(cuts=CUTS, widths=(0.501, 0.5)), "told apart by their hundredths"),
        (
            dict(cuts=CUTS, loss_weights=(1, 1)),
            "2 loss_weights do not go with 3 models: base, sub1, sub2",
        ),
        (dict(cuts=CUTS, loss_weights={"base": 1}), "loss_weights are for base, sub1, sub2"),
        (dict(cuts=CUTS, batch_norm="none"), "'own' or 'shared'"),
        (
            dict(cuts=CUTS, loss_weights=2.0),
            "loss_weights are one for each of base, sub1, sub2, not 2.0",
        ),
        (
            dict(cuts=CUTS, distillation=-1),
            "distillation is 0 or more and temperature positive, not -1 and 3.0",
        ),
        (dict(cuts=CUTS, distillation="a"), "distillation is 0 or more"),
        (dict(cuts=CUTS, distillation=1, temperature=0), "temperature positive"),
        (dict(cuts="stage1"), r"cuts=\['stage1'\]"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        CNSN(base(), **arguments)


def test_more_refusals(model):
    with pytest.raises(
        ValueError, match="no sub-model 3 at width 1.0; sub-models go from 0, the base, to 2"
    ):
        model.detach(3)
    with pytest.raises(ValueError, match="widths are 1.0"):
        model.detach(1, 0.5)
    for activation in ("softmax", "sigmoid"):
        with pytest.raises(ValueError, match="ends in an activation"):
            CNSN(base(activation=activation), CUTS, distillation=1.0)
    with pytest.raises(ValueError, match="ends in an activation"):
        CNSN(
            keras.Model((own := base()).input, keras.ops.softmax(own.output)),
            CUTS,
            distillation=1.0,
        )
    with pytest.raises(ValueError, match="this network has a single output"):
        CNSN(base(classes=1), CUTS, distillation=1.0)
    with pytest.raises(ValueError, match="no model 'sub9'; there are base, sub1, sub2"):
        model.part("sub9")
    with pytest.raises(ValueError, match="accuracies are of base"):
        model.accuracy = {"sub9": 1.0}
    with pytest.raises(ValueError, match="2 loss_weights do not go with 3 models"):
        model.compile("sgd", crossentropy(), loss_weights=[1, 1])


def test_a_layer_that_cannot_be_sliced_is_named():
    x = inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, name="first")(x)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    own = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    assert cnsn.detachable(own, ["first"]).names == ("base", "sub1")
    with pytest.raises(
        ValueError, match="layer 'grouped', a Conv2D, does not run on a part of its channels"
    ):
        cnsn.detachable(own, ["first"], widths=(0.5,))


def branched(gated):
    """Branches, a depthwise convolution, flattening; a squeeze-and-excitation gate on one side."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(10, 1, name="stem")(x)
    if gated == "before":
        x = layers.Multiply(name="gated")([x, gate(x, 10)])
    x = layers.Concatenate(name="join")(
        [layers.Conv2D(4, 1, name="a")(x), layers.Conv2D(6, 1, name="b")(x)]
    )
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    if gated == "behind":
        x = layers.Multiply(name="gated")([x, gate(x, 20)])
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten()(x)))


def gate(x, channels):
    x = layers.Reshape((1, 1, channels))(layers.GlobalAveragePooling2D()(x))
    return layers.Conv2D(channels, 1, activation="sigmoid", name="gate")(x)


def test_branches_and_gates_are_sliced_alike():
    own = branched("before")
    half = cnsn.detachable(own, ["gated"], widths=(0.5,)).detach(0, 0.5)
    x = images(2, 8)
    before = np.array(keras.Model(own.input, own.get_layer("stem").output)(x))
    weights = own.get_layer("gate").get_weights()
    pooled = before.mean((1, 2))[:, :5] @ weights[0][0, 0, :5, :5] + weights[1][:5]
    kept = np.zeros_like(before)
    kept[..., :5] = before[..., :5] / (1 + np.exp(-pooled))[:, None, None]
    a, b = (np.array(own.get_layer(n)(kept)) for n in "ab")
    a[..., 2:], b[..., 3:] = 0, 0
    deep = own.get_layer("depthwise")(np.concatenate([a, b], -1))
    channels = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13]
    found = keras.Model(half.input, half.get_layer("depthwise_w50").output)(x)
    np.testing.assert_allclose(found, np.asarray(deep)[..., channels], rtol=1e-3, atol=1e-2)


def test_a_gate_on_other_channels_than_it_gates_is_refused():
    with pytest.raises(
        ValueError, match="'gated', a Multiply, .* the widths of what it merges differ"
    ):
        cnsn.detachable(branched("behind"), ["stem"], widths=(0.5,))


@pytest.mark.slow
def test_the_zoos_networks():
    from keras_dynnets import zoo

    model = zoo.load("cnsn_vgg16", weights=None)
    params = {name: count(model.part(name)).params for name in model.names}
    macs = {name: count(model.part(name)).macs for name in model.names}
    assert params == {"base": 14_728_266, "sub1": 14_690_122, "sub2": 13_039_882}  # papers.md
    assert [round(m / 1e6, 3) for m in macs.values()] == [313.202, 273.880, 123.475]
    assert [model.get_layer(f"step_down{i}").count_params() for i in (1, 2)] == [832, 49_408]
    assert zoo.info("cnsn_vgg16").macs == macs["base"]


def small_parts(*inner):
    x = inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D(name="cut")(layers.Conv2D(4, 3, padding="same", name="first")(x))
    for layer in inner:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def test_calibration_weighs_images_and_passes_dropouts_by():
    norm = layers.BatchNormalization(name="norm")
    network = small_parts(
        layers.Conv2D(4, 1), layers.Dropout(0.5), layers.SpatialDropout2D(0.5), norm
    )
    model = cnsn.detachable(network, ["cut"])
    x = images(7, 8)
    model.calibrate(x, batch_size=3)
    before = keras.Model(network.input, norm.input)  # without dropout in inference
    np.testing.assert_allclose(
        norm.moving_mean, np.asarray(before(x)).mean((0, 1, 2)), rtol=1e-4, atol=1e-3
    )


def test_norms_inside_a_model_are_refused():
    inner = keras.Sequential(
        [keras.Input((4, 4, 4)), layers.Conv2D(4, 1), layers.BatchNormalization()], name="inner"
    )
    with pytest.raises(ValueError, match="model 'inner' inside .* has batch norms"):
        cnsn.detachable(small_parts(inner), ["cut"])
    assert cnsn.detachable(small_parts(inner), ["cut"], batch_norm="shared").names == (
        "base",
        "sub1",
    )


def test_sample_weights_by_name_with_distillation():
    model = compiled(CNSN(base(), CUTS, distillation=1.0), learning_rate=0.0)
    ones = np.ones(24)
    plain = model.fit(X, Y, batch_size=24, verbose=0).history["loss"]
    named = model.fit(
        X, Y, sample_weight=dict.fromkeys(model.names, ones), batch_size=24, verbose=0
    ).history["loss"]
    assert named == pytest.approx(plain, rel=0.05)


def test_losses_and_metrics_of_some_models_alone_are_refused():
    model = CNSN(base(), ("stage1", "stage2"))
    for options in ({"loss": {"base": "mse"}}, {"loss": "mse", "metrics": {"base": ["mae"]}}):
        with pytest.raises(
            ValueError,
            match="losses and metrics by name are for all of base, sub1, sub2, not for base",
        ):
            model.compile("sgd", **options)
