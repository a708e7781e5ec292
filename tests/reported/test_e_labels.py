"""Names of classes, names of axes and kinds of arguments of exported files."""

import json

import helpers
import keras
import numpy as np
import pytest

from keras_dynnets import cnsn, profile, puppet, zoo
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.dmnn import DMNN
from keras_dynnets.export import export_model


@pytest.fixture(scope="module")
def small():
    """A plain network of three classes that is converted in a second."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="small")


# ---- E4: the axis of the images


def axes(values):
    shapes = [value.type.tensor_type.shape.dim for value in values]
    return [[dim.dim_param or dim.dim_value for dim in shape] for shape in shapes]


def made(kind):
    if kind == "puppet":
        return helpers.generated(levels=2)
    if kind == "puppet's level":
        return helpers.generated(levels=2).deployments(levels=[1])
    if kind == "dmnn":
        return helpers.tiny()
    if kind == "cnsn's part":
        return cnsn.detachable(helpers.detachable_base(), ["stage1"]).detach(1)
    return zoo.load(kind, weights=None)


@pytest.mark.parametrize(
    "kind", ["resnet20", "tissue_lenet5", "cnsn's part", "dmnn", "puppet", "puppet's level"]
)
def test_e4_the_open_axis_is_called_batch(kind, tmp_path):
    """E4: in inputs and outputs, so that a tool that fixes it by its name fixes both."""
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    export_model(made(kind), tmp_path / "m.onnx")
    proto = onnx.load(str(tmp_path / "m.onnx"))
    (images,), (logits,) = axes(proto.graph.input), axes(proto.graph.output)
    assert (images[0], logits[0]) == ("batch", "batch")
    assert "unk__" not in str([*proto.graph.input, *proto.graph.output, *proto.graph.value_info])
    x = helpers.images(4, images[1])[..., : images[-1]]
    session = ort.InferenceSession(str(tmp_path / "m.onnx"))
    wanted = session.run(None, {"images": x})[0]
    make_dim_param_fixed(proto.graph, "batch", 4)
    assert (axes(proto.graph.input)[0][0], axes(proto.graph.output)[0][0]) == (4, 4)
    fixed = ort.InferenceSession(proto.SerializeToString()).run(None, {"images": x})[0]
    np.testing.assert_allclose(fixed, wanted, atol=1e-5)


def test_e4_a_fixed_number_of_images_is_that_number(small, tmp_path):
    """E4: the file says 1 where it takes one image."""
    onnx = pytest.importorskip("onnx")
    export_model(small, tmp_path / "m.onnx", batch_size=1)
    graph = onnx.load(str(tmp_path / "m.onnx")).graph
    assert axes(graph.input) == [[1, 8, 8, 3]] and axes(graph.output) == [[1, 3]]


# ---- E7: numbers of numpy, names of files and of formats


@pytest.mark.parametrize("number", [np.int64(1), np.uint8(1), np.array(1)])
def test_e7_numbers_of_numpy_reach_the_json(small, tmp_path, number):
    """E7: `batch_size=np.int64(1)` was no JSON after the whole conversion."""
    export_model(small, tmp_path / "m.onnx", batch_size=number)
    described = json.loads((tmp_path / "m.onnx.json").read_text())
    assert described["report"]["batch_size"] == 1 and described["input"]["shape"][0] == 1


@pytest.mark.parametrize("wrong", [True, np.True_, 0, -1, 1.0, "1"])
def test_e7_what_is_no_number_of_images(small, tmp_path, wrong):
    """E7: True is no number."""
    with pytest.raises(ValueError, match="batch_size must be an integer of 1 or more, not "):
        export_model(small, tmp_path / "m.onnx", batch_size=wrong)
    with pytest.raises(ValueError, match="batch_size must be an integer of 1 or more, not "):
        profile.measure(small, helpers.images(2, 8), batch_size=wrong)
    assert not list(tmp_path.iterdir())


def test_e7_numbers_of_numpy_in_the_zoo(tiny_entry, monkeypatch):
    """E7: sizes, options and parts."""
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    model = zoo.load(
        "tiny",
        weights=None,
        num_classes=np.int64(4),
        input_shape=np.array([24, 24, 3]),
        target_rate=np.float32(0.7),
        categories=np.arange(4) % 2,
        seed=np.int64(3),
    )
    assert model.input_shape == (None, 24, 24, 3) and model.num_classes == 4
    assert model.target_rate == 0.7 and model.categories == (0, 1, 0, 1)
    json.dumps(model.get_config())
    part = zoo.load("parts", weights=None, sub_model=np.int64(2), width=np.float32(1))
    assert part.name == "parts_sub2"
    x = helpers.images(3, 24)
    measured = profile.measure(model, x, batch_size=np.int64(2))
    assert len(measured.macs) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": True}, "num_classes must be an integer of 1 or more, not True"),
        ({"num_classes": 5.0}, "num_classes must be an integer of 1 or more, not 5.0"),
        ({"input_shape": (32, 32, 3.0)}, "input_shape is "),
        ({"target_rate": True}, "target_rate of tiny is a number, not True"),
        ({"seed": np.True_}, "seed of tiny is a number, not np.True_"),
    ],
)
def test_e7_truth_values_are_no_numbers(tiny_entry, options, message):
    """E7: in a size or an option of the zoo."""
    with pytest.raises(ValueError, match=message):
        zoo.load("tiny", weights=None, **options)


def test_e7_numbers_of_numpy_in_families(tmp_path):
    """E7: models that are made with them can be saved."""
    made = [
        DMNN("tiny", np.int64(2), np.int64(5), np.array([16, 16, 3]), seed=np.int64(1)),
        cnsn.detachable(helpers.detachable_base(), ["stage1"], widths=np.array([1, 0.5])),
        puppet.puppeteer(helpers.generated_plain(), levels=np.int64(2)),
    ]
    for model in made:
        model.save(tmp_path / "m.keras")
        assert keras.saving.load_model(tmp_path / "m.keras").count_params()
    made[2].calibrate(helpers.images(20))
    assert made[1].detach(np.int64(1), np.float64(0.5)).name.endswith("sub1_w50")
    for wrong in ((True, 1.0), (1, True)):
        with pytest.raises(ValueError, match="there is no sub-model"):
            made[1].detach(*wrong)


@pytest.mark.parametrize("wrong", [True, 0, 1.5])
def test_e7_numbers_of_a_benchmark(wrong):
    """E7: refused before TensorFlow gets a number of threads."""
    with pytest.raises(ValueError, match="threads must be an integer of 1 or more"):
        profile.compare("tissue_mlp", "mlp", threads=wrong)
    with pytest.raises(ValueError, match="repeats must be an integer of 1 or more"):
        profile.bench("dmnn20", repeats=wrong)


@pytest.mark.parametrize("name", ["m.keras", "m.pb", "m.h5", "m.pt", "m.onnx.bak", "m"])
def test_e7_a_name_that_says_no_format_is_refused(small, tmp_path, name):
    """E7: a LiteRT file was written under such a name."""
    with pytest.raises(ValueError, match=r"does not say which format .* \.tflite .*\.onnx"):
        export_model(small, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_e7_a_format_that_is_named_takes_any_name_but_anothers(small, tmp_path):
    """E7: with `format`, in upper or lower case, a file may be called as the user likes."""
    assert export_model(small, tmp_path / "m.ONNX").format == "onnx"
    assert export_model(small, tmp_path / "m.bin", "TFLite").format == "litert"
    with pytest.raises(ValueError, match="in the format 'litert', not 'onnx'"):
        export_model(small, tmp_path / "m.TFLITE", "onnx")
    with pytest.raises(ValueError, match="is no name of a file"):
        export_model(small, "")


def test_e7_on_the_command_line(command, tmp_path):
    """E7: refused before the network is loaded."""
    code, output = command("export", "tissue_mlp", tmp_path / "m.keras")
    assert code == 2 and "m.keras does not say which format" in output.err
    assert len(output.err.splitlines()) == 1 and not list(tmp_path.iterdir())
