import ast
from pathlib import Path

import keras
import pytest
from keras import layers

from keras_dynnets import profile, zoo
from keras_dynnets.core import cost
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.layers import MultiPath
from keras_dynnets.measure import counting


@pytest.fixture(scope="module")
def dmnn20():
    return zoo.load("dmnn20", weights=None)


@pytest.mark.parametrize(
    "name, params, macs",
    [
        ("resnet20", 272_474, 40_813_184),
        ("dmnn20", 292_030, None),
        ("resnet50", 25_557_032, 4_089_184_256),
        pytest.param("resnet101", 44_549_160, None, marks=pytest.mark.slow),
        ("mobilenetv2", 3_504_872, None),
        pytest.param("dmnn50", 24_668_250, None, marks=pytest.mark.slow),
    ],
)
def test_published_and_derived_numbers(name, params, macs):
    model = zoo.load(name, weights=None)
    counted = profile.count(model)
    assert counted.params == params
    assert counted.macs == cost.model_macs(model)
    if macs is not None:
        assert counted.macs == macs


@pytest.mark.parametrize(
    "name",
    ["dmnn20", "resnet20", "dmnn_mobilenetv2", pytest.param("dmnn50", marks=pytest.mark.slow)],
)
def test_tensorflows_profiler_agrees(name):
    model = zoo.load(name, weights=None)
    # Not to the digit: the graph of inference may hold half of the last product of a controller.
    assert profile.graph_macs(model) == pytest.approx(profile.count(model).macs, rel=1e-4)


def test_paths_of_a_dmnn(dmnn20):
    counted = profile.count(dmnn20)
    assert counted.path_macs == tuple(tuple(block) for block in dmnn20.path_macs.tolist())
    assert (len(counted.path_macs), len(counted.path_macs[0])) == (9, 2)
    assert counted.path_macs[0][0] == 32 * 32 * (3 * 3 * 16 * 8 + 3 * 3 * 8 * 16)
    assert (
        counted.fixed_macs == dmnn20.fixed_macs == counted.macs - sum(map(sum, counted.path_macs))
    )


def test_plain_network_has_no_paths():
    counted = profile.count(zoo.load("resnet20", weights=None))
    assert counted.path_macs == ()
    assert counted.fixed_macs == counted.macs


def test_layers_add_up_in_running_order(dmnn20):
    counted = profile.count(dmnn20)
    assert counted.layers[0] == ("stem_conv", 3 * 3 * 3 * 16, 32 * 32 * 3 * 3 * 3 * 16)
    assert counted.layers[-1] == ("logits", 64 * 10 + 10, 64 * 10)
    assert sum(row.params for row in counted.layers) == counted.params
    assert sum(row.macs for row in counted.layers) == counted.macs
    assert "layers" not in repr(counted)


def test_category_heads_do_not_count(dmnn20):
    supervised = DMNN(
        "resnet20", num_classes=10, input_shape=(32, 32, 3), categories=[0] * 4 + [1] * 6
    )
    assert supervised.count_params() > dmnn20.count_params()
    assert profile.count(supervised) == profile.count(dmnn20)
    assert profile.graph_macs(supervised) == profile.graph_macs(dmnn20)


def test_freezing_changes_nothing():
    model = zoo.load("dmnn20", weights=None)
    before = profile.count(model)
    model.trainable = False
    assert profile.count(model) == before


def test_execution_comes_back(dmnn20, monkeypatch):
    paths = dmnn20._multi_paths()
    dmnn20.execution = "sparse"
    paths[1].execution = "conditional"
    dmnn20.train_function = under_way = object()
    seen = []

    def fail(*arguments):
        seen.extend(path.execution for path in paths)
        raise RuntimeError("no tracing today")

    monkeypatch.setattr(MultiPath, "_add_masked", fail)
    with pytest.raises(RuntimeError, match="no tracing today"):
        profile.graph_macs(dmnn20)
    assert set(seen) == {"masked"}
    assert [path.execution for path in paths] == ["sparse", "conditional"] + ["sparse"] * 7
    assert dmnn20.train_function is under_way
    dmnn20.execution = "auto"


def test_graph_macs_prints_nothing(capfd):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, groups=1)])
    profile.graph_macs(model)  # TensorFlow warns of its own deprecated parts once a process
    capfd.readouterr()
    profile.graph_macs(model)
    assert capfd.readouterr() == ("", "")


def grouped():
    return [
        layers.Conv2D(8, 3, groups=4),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.Conv2D(8, 1, groups=2),
    ]


def sequential():
    return keras.Sequential([keras.Input((16, 16, 8)), *grouped()])


def called_twice():
    x = keras.Input((16, 16, 8))
    conv = layers.Conv2D(8, 3, padding="same")
    return keras.Model(x, conv(layers.AveragePooling2D(2)(conv(x))))


def nested():
    inner, x = sequential(), keras.Input((16, 16, 8))
    return keras.Model(x, layers.Conv2D(5, 3)(inner(layers.Conv2D(8, 3, padding="same")(x))))


def nested_functional():
    inner, x = called_twice(), keras.Input((16, 16, 8))
    return keras.Model(
        x, layers.Dense(7)(layers.GlobalAveragePooling2D()(inner(inner.layers[1](x))))
    )


def two_inputs():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((4,), name="b")
    joined = layers.Concatenate()([layers.Flatten()(layers.Conv2D(2, 3)(a)), layers.Dense(5)(b)])
    return keras.Model({"a": a, "b": b}, layers.Dense(3)(joined))


@pytest.mark.parametrize(
    "build, params, macs",
    [
        (sequential, 152 + 160 + 72, 14 * 14 * 9 * 2 * 8 + 12 * 12 * 9 * 16 + 12 * 12 * 8 * 8),
        (called_twice, 584, (16 * 16 + 8 * 8) * 9 * 8 * 8),
        (nested, None, None),
        (nested_functional, 584 + 63, (2 * 16 * 16 + 8 * 8) * 9 * 8 * 8 + 8 * 7),
        (two_inputs, 56 + 25 + (72 + 5) * 3 + 3, 36 * 27 * 2 + 20 + 77 * 3),
    ],
)
def test_any_functional_model(build, params, macs):
    model = build()
    counted = profile.count(model)
    assert counted.macs == profile.graph_macs(model)
    assert counted.params == model.count_params()
    if params is not None:
        assert (counted.params, counted.macs) == (params, macs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "make", [Subclassed, lambda: keras.Sequential([layers.Dense(2)]), lambda: layers.Dense(2), str]
)
@pytest.mark.parametrize("function", [profile.count, profile.graph_macs])
def test_models_that_cannot_be_followed(make, function):
    with pytest.raises(ValueError, match="keras.Model\\(inputs, outputs\\)"):
        function(make())


@pytest.mark.parametrize("function", [profile.count, profile.graph_macs])
def test_open_input_size(function):
    x = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="fixed input_shape"):
        function(keras.Model(x, layers.Conv2D(4, 3)(x)))


def test_model_called_on_another_size():
    inner = keras.Input((None, None, 8))
    inner = keras.Model(inner, layers.Conv2D(8, 3)(inner), name="inner")
    x = keras.Input((16, 16, 8))
    model = keras.Model(x, inner(x))
    assert profile.count(model).macs == profile.graph_macs(model) == 14 * 14 * 9 * 8 * 8


@pytest.mark.parametrize(
    "file", sorted(Path(counting.__file__).parent.glob("*.py")), ids=lambda file: file.name
)
def test_importing_brings_neither_tensorflow_nor_matplotlib(file):
    imports = [
        node
        for node in ast.parse(file.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    names = [getattr(node, "module", None) or node.names[0].name for node in imports]
    assert not [name for name in names if name.split(".")[0] in ("tensorflow", "matplotlib")]


def test_dense_layers_at_every_position():
    inputs = keras.Input((4, 5, 6))
    assert profile.count(keras.Model(inputs, keras.layers.Dense(7)(inputs))).macs == 4 * 5 * 6 * 7


class Spectrum(layers.Layer):
    def call(self, x):
        return keras.ops.fft((x, x))[0]


class OfTensorFlow(layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.matmul(x, x, transpose_b=True)


def loop(x):
    return keras.ops.vectorized_map(lambda y: y @ y, x)


@pytest.mark.parametrize(
    "call, named",
    [
        (keras.ops.linalg.inv, "operation 'inv', a Inv"),
        (loop, "a VectorizedMap"),
        (lambda x: keras.ops.einsum("bij,bjk,bkl->bil", x, x, x), "a Einsum"),
        (Spectrum(name="mine"), "a FFT inside layer 'mine', a Spectrum"),
        (OfTensorFlow(name="mine"), "layer 'mine', a OfTensorFlow"),
        (layers.Lambda(keras.ops.linalg.det, name="mine"), "a Det inside layer 'mine', a Lambda"),
    ],
)
def test_what_cannot_be_counted_is_refused(call, named):
    inputs = keras.Input((8, 8))
    with pytest.raises(ValueError, match=f"the cost of .*{named}, is not known.*Costed"):
        profile.count(keras.Model(inputs, call(inputs)))


class Counter(layers.Layer):
    """A user's layer with attributes that have the names of the library's methods."""

    def __init__(self, called, **kwargs):
        super().__init__(**kwargs)
        self.called = called
        self.conv = layers.Conv2D(4, 3, padding="same")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, x):
        return self.conv(x)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def _note(self, *arguments):
        self.called.append(arguments)
        return [10**6]

    macs = optional_macs = path_macs = inner_calls = calls = _note
    stand_in = plain = used_params = values = deployed = _note

    @property
    def params(self):
        self.called.append("params")
        return 10**6


class FreeCounter(Counter):
    """One without kernels, so that its cost is known to be 0."""

    def build(self, input_shape):
        pass

    def call(self, x):
        return x

    def compute_output_shape(self, input_shape):
        return input_shape


def test_attributes_of_a_users_layer_are_not_taken_for_those_of_costed():
    called, inputs = [], keras.Input((8, 8, 3))
    x = FreeCounter(called)(layers.Conv2D(4, 3, padding="same", name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    counted = profile.count(model)
    assert (counted.params, counted.macs) == (4 * 27 + 4 + 10, 64 * 27 * 4 + 8)
    assert (counted.path_macs, counted.fixed_macs) == ((), counted.macs)
    assert counted.flops == 2 * (counted.macs + 64 * 4)
    assert [row.name for row in counted.layers][0] == "conv" and len(counted.layers) == 2
    assert profile.measure(model, keras.ops.ones((1, 8, 8, 3)).numpy() * 9).macs == counted.macs
    counted = profile.count(keras.Model(inputs, Counter(called)(inputs)))
    assert (counted.params, counted.macs) == (4 * 27 + 4, 64 * 27 * 4)
    assert not called


def test_a_layer_that_states_its_cost_is_taken_at_its_word():
    class Twice(cost.Costed, Counter):
        def inner_calls(self, input_shape):
            return [(self.conv, input_shape)] * 2

        macs = cost.Costed.macs
        optional_macs = cost.Costed.optional_macs
        stand_in, used_params = cost.Costed.stand_in, cost.Costed.used_params

    called, inputs = [], keras.Input((8, 8, 3))
    counted = profile.count(keras.Model(inputs, Twice(called)(inputs)))
    assert (counted.params, counted.macs) == (4 * 27 + 4, 2 * 64 * 27 * 4)
    assert not called
