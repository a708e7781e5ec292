"""Names of classes, names of axes and kinds of arguments of exported files."""

import json
import zipfile
from pathlib import Path

import helpers
import keras
import numpy as np
import pytest

from keras_dynnets import cnsn, profile, puppet, zoo
from keras_dynnets.core.class_names import name_classes, names_of_classes
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.dmnn import DMNN
from keras_dynnets.export import export_model
from keras_dynnets.export.labels import class_labels
from keras_dynnets.layers import BatchNormalization
from keras_dynnets.zoo.model_files import run_in_file


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
        return helpers.tiny(backbone="two")
    if kind == "plain":
        return helpers.generated_plain()
    if kind == "cnsn's part":
        return cnsn.detachable(helpers.detachable_base(), ["stage1"]).detach(1)
    return zoo.load(kind, weights=None)


@pytest.mark.parametrize(
    "kind", ["plain", "tissue_lenet5", "cnsn's part", "dmnn", "puppet", "puppet's level"]
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


# ---- E3: names of classes in every form that they come in


class Index:
    """Like an index of pandas: an array that is no sequence."""

    def __init__(self, names):
        self.names = np.array(names, dtype=object)

    def __iter__(self):
        return iter(self.names)


NAMES = ("cat", "dog", "ünï köde")


@pytest.mark.parametrize(
    "labels",
    [
        list(NAMES),
        NAMES,
        np.array(NAMES),
        np.array(NAMES, dtype=object),
        Index(NAMES),
        (name for name in NAMES),
        {2: NAMES[2], 0: NAMES[0], 1: NAMES[1]},
        {np.int64(i): name for i, name in reversed(list(enumerate(NAMES)))},
        {str(i): name for i, name in enumerate(NAMES)},
        {name: i for i, name in reversed(list(enumerate(NAMES)))},
        dict(zip(NAMES, np.arange(3), strict=True)),
    ],
)
def test_e3_names_in_the_order_of_the_logits(labels):
    """E3: `{0: "cat", ...}` gave ["0", "1", ...]."""
    assert class_labels(labels, 3) == NAMES
    assert all(type(name) is str for name in class_labels(NAMES, 3))


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\n  \n"])
def test_e3_names_from_a_file(tmp_path, kind, start, end):
    """E3: the path itself was taken letter by letter."""
    content = start + "\r\n".join(NAMES) + end
    (tmp_path / "labels.txt").write_bytes(content.encode())
    assert class_labels(kind(tmp_path / "labels.txt"), 3) == NAMES


@pytest.mark.parametrize("numbers", [[0, 1, 2], range(3), np.arange(3), list(np.arange(3))])
def test_e3_numbers_become_texts(numbers):
    """E3: the digits of MNIST, whatever integers they are."""
    assert class_labels(numbers, 3) == ("0", "1", "2")


@pytest.mark.parametrize("form", ["list", "array", "file", "dict"])
def test_e3_two_classes_of_one_name_are_told_and_kept(form, tmp_path, caplog):
    """E3: "crane" and "maillot" name two classes each of ImageNet."""
    names = ["crane", "maillot", "crane", "maillot", "cat"]
    (tmp_path / "l.txt").write_text("\n".join(names))
    forms = {
        "list": names,
        "array": np.array(names),
        "file": tmp_path / "l.txt",
        "dict": dict(enumerate(names)),
    }
    assert class_labels(forms[form], 5) == tuple(names)
    assert caplog.messages == ["several classes have the same label: crane, maillot"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"cat", "dog", "cow"}, "are a set, which has no order; give a list"),
        (frozenset(NAMES), "are a set"),
        ("labels.txt", "labels='labels.txt' is no file; labels are a list of names"),
        (Path("/"), "is no file"),
        ({0: "cat", 2: "dog", 3: "cow"}, "each index from 0 to 2 once.* has 0, 2, 3"),
        ({1: "cat", 2: "dog", 3: "cow"}, "each index from 0 to 2 once"),
        ({"cat": 0, "dog": 0, "cow": 1}, "each index from 0 to 2 once"),
        ({0: "cat", "1": "dog", 2: "cow"}, "each index"),
        ({0.0: "cat", 1.0: "dog", 2.0: "cow"}, "each index"),
        ({False: "cat", True: "dog", 2: "cow"}, "each index"),
        (["cat", "", "cow"], "a label is empty"),
        (["cat", "dog", None], "labels are texts, and None is none"),
        ([True, False, True], "labels are texts, and True is none"),
        ([0.0, 1.0, 2.0], "labels are texts"),
        ([["cat", "dog", "cow"]], "labels are texts"),
        ([b"cat", b"dog", b"cow"], "labels are texts"),
        (b"cat", "labels are a list of names"),
        (3, "labels are a list of names.*, not 3"),
        (["cat", "dog"], "2 labels do not name 3 classes"),
        ({0: "cat", 1: "dog"}, "2 labels do not name 3 classes"),
        ([], "0 labels do not name 3 classes"),
    ],
)
def test_e3_what_names_no_logits_is_refused(labels, message):
    """E3: in one line, which says what is accepted."""
    with pytest.raises(ValueError, match=message) as raised:
        class_labels(labels, 3)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"cat\n\ndog", b"\xff\xfe\xfa", b"", b"cat\ndog\n"])
def test_e3_a_file_that_names_no_logits_is_refused(small, tmp_path, content):
    """E3: before anything is written."""
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ValueError, match="label"):
        export_model(small, tmp_path / "m.tflite", labels=tmp_path / "labels.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.txt"]


def labels_in(path):
    return json.loads(path.with_name(f"{path.name}.json").read_text())["labels"]


def test_e3_names_reach_the_sidecar(small, tmp_path):
    """E3: of every format."""
    for name, form in (("a.tflite", None), ("a.onnx", None), ("a", "saved_model")):
        export_model(small, tmp_path / name, form, labels=dict(enumerate(NAMES)))
        assert labels_in(tmp_path / name) == list(NAMES)


def test_e3_published_names_from_python_and_from_a_file_in_the_shell(command, tmp_path):
    """E3: `labels=None` wrote null for published weights; `--labels` gives others."""
    export_model(zoo.load("tissue_mlp"), tmp_path / "a.tflite")
    assert labels_in(tmp_path / "a.tflite") == list(zoo.labels("tissue_mlp"))
    assert not hasattr(zoo.load("tissue_mlp", num_classes=5), "class_names")
    (tmp_path / "l.txt").write_text("\n".join("abcdefghij"))
    done = command("export", "tissue_mlp", tmp_path / "b.tflite", "--labels", tmp_path / "l.txt")
    assert done[0] == 0 and labels_in(tmp_path / "b.tflite") == list("abcdefghij")


def test_e3_quantised_weights_keep_the_names(tmp_path, caplog):
    """E3: `quantize` is no training."""
    model = named("plain")
    model.quantize("int8")
    model.save(tmp_path / "m.keras")
    assert zoo.labels(tmp_path / "m.keras") == NAMES
    assert names_of_classes(keras.saving.load_model(tmp_path / "m.keras")) == NAMES
    assert not caplog.messages


def test_e3_names_that_are_not_saved_are_told(tmp_path, caplog):
    """E3: after a training or `enable_lora`; the user can say that they are the same."""
    model = named("plain")
    model.get_layer("logits").enable_lora(2)
    model.save(tmp_path / "m.keras")
    assert zoo.labels(tmp_path / "m.keras") is None
    (message,) = caplog.messages
    assert "are not saved" in message and "model.class_names = list(model.class_names)" in message
    model.class_names = list(model.class_names)
    model.save(tmp_path / "m.keras")
    assert zoo.labels(tmp_path / "m.keras") == NAMES and len(caplog.messages) == 1


@pytest.mark.parametrize("wrong", [{0: "a", 1: "b", 2: "c"}, "abc"])
def test_e3_names_of_a_model_have_an_order(wrong, tmp_path):
    """E3: a dict gave its keys as names, a text its letters."""
    model = named("plain")
    model.class_names = wrong
    with pytest.raises(ValueError, match="class_names of plain is a list of names in the order"):
        model.save(tmp_path / "m.keras")


@pytest.mark.parametrize(
    "config",
    [
        {"config": {"class_names": ["a", "b"]}},
        {"config": {"class_names": {"names": "ab", "run": 3}}},
        {"config": {"class_names": {"a": 0}}},
        {"config": ["a"]},
        ["a"],
    ],
)
def test_e3_configs_of_other_packages_name_no_classes(config, tmp_path):
    """E3: "'list' object has no attribute 'get'"."""
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    assert zoo.labels(tmp_path / "m.keras") is None
    assert run_in_file(tmp_path / "m.keras") is None


def needs_this_package(model):
    return "keras_dynnets" in json.dumps(keras.saving.serialize_keras_object(model))


def test_e3_a_plain_copy_of_a_named_model_needs_keras_alone():
    """E3: the two ways of docs/keras-compatibility.md."""
    model = named("plain")
    assert needs_this_package(model)
    assert not needs_this_package(keras.Model(model.inputs, model.outputs))

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    model.add(BatchNormalization())
    model = keras.Model(model.inputs, keras.layers.Flatten()(model.outputs[0]))
    text = (helpers.TESTS.parent / "docs" / "keras-compatibility.md").read_text()
    (code,) = (block.split("```")[0] for block in text.split("```python\n")[1:])
    found = {"keras": keras, "model": model}
    exec(code.replace("plain.save", "# "), found)
    assert needs_this_package(model) and not needs_this_package(found["plain"])
    x = helpers.images(2, 8)
    helpers.assert_close(np.asarray(found["plain"](x)), np.asarray(model(x)), 1e-5)


def test_options_of_a_saved_model(tmp_path):
    """C: a file takes the options of a part, and no others."""
    model = named("cnsn")
    model.save(tmp_path / "m.keras")
    assert zoo.load(tmp_path / "m.keras", sub_model=1).name.endswith("_sub1")
    with pytest.raises(TypeError, match="takes only sub_model, width, copy, not target_rate; leav"):
        zoo.load(tmp_path / "m.keras", target_rate=0.5)
    model.detach(1, copy=True).save(tmp_path / "p.keras")
    with pytest.raises(TypeError, match="takes no options, not seed; leave"):
        zoo.load(tmp_path / "p.keras", seed=1)


# ---- E6: weights that are quantised, and low-rank changes


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_e6_a_quantised_model_is_refused_before_any_work(tmp_path, mode):
    """E6: "set_weights ... length 3 ... expecting 2"."""
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3))
    model.quantize(mode)
    with pytest.raises(
        ValueError, match=f"{mode} weights.*export it before model.quantize.*precision='int8'"
    ):
        export_model(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
    x = helpers.images(4, 8)
    measured = profile.measure(model, x)
    assert measured.worst_macs == 8 * 8 * 3 * 3 and measured.logits.shape == (4, 3)


def test_e6_a_quantised_model_is_not_converted():
    """E6: a converter would read the integers as if they were the weights."""
    base = helpers.generated_plain()
    outputs = keras.layers.Dense(3)(base.output)
    model = keras.Model(base.input, outputs)
    model.quantize("int8")
    with pytest.raises(ValueError, match="puppeteer takes a network in floating point.*int8"):
        puppet.puppeteer(model)
    with pytest.raises(ValueError, match="in floating point.*int8"):
        cnsn.detachable(model, ["stage1_relu1"])


def test_e6_low_rank_changes_are_merged(tmp_path):
    """E6: `enable_lora` adds weights that a plain layer does not have."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    x = helpers.images(4, 8)
    before = np.asarray(model(x))
    for layer in (model.get_layer("conv"), model.get_layer("head")):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    assert np.abs(np.asarray(model(x)) - before).max() > 1
    report = export_model(model, tmp_path / "m.tflite")
    assert report.max_abs_diff < 1e-3


# ---- names in `.keras` files


def named(kind):
    """A model whose weights came with the names of three classes."""
    models = {
        "plain": lambda: helpers.generated_plain(classes=3),
        "dmnn": lambda: helpers.tiny(num_classes=3, backbone="two"),
        "cnsn": lambda: cnsn.detachable(helpers.detachable_base((4, 8), 3), ["stage1"]),
        "puppet": lambda: puppet.puppeteer(helpers.generated_plain(classes=3), levels=2),
    }
    return name_classes(models[kind](), NAMES)


@pytest.mark.parametrize("kind", ["plain", "dmnn", "cnsn", "puppet"])
def test_e3_names_survive_saving_as_long_as_they_are_of_the_weights(kind, tmp_path):
    """E3: every family and plain networks; not when the weights have changed in any way."""
    model = named(kind)
    assert names_of_classes(model) == NAMES
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert names_of_classes(loaded) == loaded.class_names == NAMES
    assert zoo.labels(tmp_path / "m.keras") == NAMES
    copy = type(loaded).from_config(loaded.get_config())
    assert names_of_classes(copy) is None  # its weights are random
    variable = next(v for v in loaded.trainable_variables)
    variable.assign(variable + 1.0)  # as a training would, whatever loop runs it
    assert names_of_classes(loaded) is None
    loaded.save(tmp_path / "n.keras")
    assert zoo.labels(tmp_path / "n.keras") is None
    assert not hasattr(keras.saving.load_model(tmp_path / "n.keras"), "class_names")
    loaded.class_names = ["a", "b", "c"]  # the user says so
    loaded.save(tmp_path / "o.keras")
    assert names_of_classes(keras.saving.load_model(tmp_path / "o.keras")) == ("a", "b", "c")


def test_e3_other_weights_have_other_names(tmp_path):
    """E3: weights of the user's own in a model of published ones."""
    model, other = named("plain"), helpers.generated_plain(classes=3)
    other.save_weights(tmp_path / "w.weights.h5")
    model.load_weights(tmp_path / "w.weights.h5")
    assert names_of_classes(model) is None
    clone = keras.models.clone_model(named("plain"))
    assert names_of_classes(clone) is None


def test_e3_parts_keep_the_names(tmp_path):
    """E3: a detached sub-model and the network of a level."""
    for part in (named("cnsn").detach(1), named("puppet").materialise(0)):
        part.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        assert names_of_classes(loaded) == NAMES and loaded.name == part.name
