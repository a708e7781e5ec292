"""Every file runs in its own runtime on images that take different paths, as Keras runs them."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import helpers
import keras
import numpy as np
import pytest

from keras_dynnets import zoo
from keras_dynnets.core.dynamic import interface
from keras_dynnets.export import ExportError, export_model
from keras_dynnets.export.formats.base import formats
from keras_dynnets.export.verify import verification_images
from keras_dynnets.layers import GroupedConv2D, StackedUnits2D
from keras_dynnets.zoo.weights.cache import sha256

FORMATS = {known.name: known for known in formats()}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(7)  # the weights do not depend on the tests that ran before
    made = helpers.tiny(seed=1)
    return helpers.scatter_gates(helpers.settle(made, helpers.images(16)))


@pytest.fixture(scope="module")
def x():
    return helpers.images(24, seed=5)


def run_all(target, path, images, batch_size):
    run = target.runner(path)
    step = batch_size or len(images)
    results = [run(images=images[i : i + step]) for i in range(0, len(images), step)]
    return {name: np.concatenate([r[name] for r in results]) for name in results[0]}


@pytest.mark.parametrize(
    ("format", "batch_size"),
    [("litert", 1), ("onnx", 1), ("onnx", None), ("saved_model", 1), ("saved_model", None)],
)
def test_a_file_gives_what_keras_gives_on_every_path(model, x, tmp_path, format, batch_size):
    path = tmp_path / "file"
    with_gates = model.deployments(gates=True)
    report = export_model(with_gates, path, format, batch_size=batch_size, calibration=x)
    assert report.images >= 3 and report.paths >= 3

    found = run_all(FORMATS[format], path, x, batch_size)
    wanted = model.with_gates().predict(x, verbose=0)
    assert len(np.unique(wanted["gates"].reshape(len(x), -1), axis=0)) >= 3
    np.testing.assert_array_equal(found["gates"], wanted["gates"])
    np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_half_precision_takes_about_half_the_bytes_and_stays_close(model, x, tmp_path, format):
    full = export_model(model, tmp_path / "full", format, calibration=x)
    half = export_model(model, tmp_path / "half", format, "fp16", calibration=x)
    assert half.bytes < 0.75 * full.bytes
    assert full.max_abs_diff < half.max_abs_diff < 0.2


@pytest.mark.parametrize("format", FORMATS)
def test_a_plain_network_exports_too(tmp_path, format):
    plain = zoo.load("resnet20", weights=None)
    images = helpers.images(5, 32)
    export_model(plain, tmp_path / "file", format, calibration=images)
    found = run_all(FORMATS[format], tmp_path / "file", images, 1 if format == "litert" else None)
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], plain.predict(images, verbose=0), atol=1e-4)


def test_every_sub_block_has_its_condition_and_litert_needs_only_builtin_operations(
    model, tmp_path
):
    sub_blocks = model.path_macs.size
    lite = export_model(model, tmp_path / "m.tflite", "litert").operations
    assert lite["IF"] == sub_blocks
    assert not [name for name in lite if name.startswith("Flex") or not name.isupper()]
    assert (
        export_model(model, tmp_path / "one.onnx", "onnx", batch_size=1).operations["If"]
        == sub_blocks
    )
    many = export_model(model, tmp_path / "any.onnx", "onnx").operations
    assert many["If"] == sub_blocks and many["Scan"] == 1


def test_closed_gates_run_no_convolution_in_onnx_runtime(tmp_path):
    """Counted by the runtime's own profiler: what is skipped is skipped, not multiplied by zero."""
    import onnxruntime

    counts = {}
    for on in (True, False):
        made = helpers.force_gates(helpers.tiny(), np.full((3, 2), on))
        path = tmp_path / f"{on}.onnx"
        export_model(made, path, "onnx", batch_size=1)
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / f"profile{on}")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, {"images": helpers.images(1)})
        events = json.loads(Path(session.end_profiling()).read_text())
        ran = [
            e["args"]["op_name"]
            for e in events
            if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")
        ]
        counts[on] = sum(name in ("Conv", "FusedConv") for name in ran)
    per_sub_block = 2
    assert counts[True] - counts[False] == 3 * 2 * per_sub_block


def test_the_description_beside_the_file(model, tmp_path):
    path, labels = tmp_path / "m.onnx", [f"class {i}" for i in range(10)]
    report = export_model(model, path, "onnx", labels=labels)
    told = json.loads((tmp_path / "m.onnx.json").read_text())
    assert told["labels"] == labels
    assert told["input"] == {
        "name": "images",
        "shape": [None, 16, 16, 3],
        "dtype": "float32",
        "range": [0, 255],
    }
    assert told["report"]["sha256"] == report.sha256 == sha256(path)
    assert told["report"]["bytes"] == path.stat().st_size
    assert told["versions"]["onnxruntime"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_a_file_that_fails_its_check_is_gone_and_the_one_before_stays(model, tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the file before")
    honest = FORMATS["litert"].write

    def damaged(network, *arguments):
        changed = helpers.tiny(seed=2)  # another network's weights
        honest(helpers.settle(changed, helpers.images(16)).with_gates(), *arguments)

    monkeypatch.setattr(FORMATS["litert"], "write", damaged)
    with pytest.raises(
        ExportError, match=r"m\.tflite was removed: its logits differ from Keras's by \d"
    ):
        export_model(model, path, "litert")
    assert path.read_bytes() == b"the file before"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


def test_a_file_that_is_no_model_is_refused(model, tmp_path, monkeypatch):
    target = FORMATS["onnx"]
    monkeypatch.setattr(target, "write", lambda network, path, job: path.write_bytes(b"no model"))
    monkeypatch.setattr(target, "operations", lambda path: {})
    with pytest.raises(ExportError, match="does not load"):
        export_model(model, tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"format": "coreml"},
            "format 'coreml' is unknown; it is one of litert, onnx, saved_model",
        ),
        ({"precision": "int4"}, "precision 'int4' is unknown; it is one of fp32, fp16, int8"),
        ({"batch_size": 0}, "batch_size must be an integer of 1 or more, not 0"),
        ({"batch_size": 8}, "batch_size=8 is refused: .* takes 1 a call"),
        ({"labels": ["a", "b"]}, "2 labels do not name 10 classes"),
    ],
)
def test_arguments_that_make_no_sense(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path / "m", **{"format": "litert", **arguments})
    assert not list(tmp_path.iterdir())


def test_a_plain_network_has_no_gates_to_give():
    with pytest.raises(ValueError, match="resnet20 has no option gates"):
        interface(zoo.load("resnet20", weights=None)).deployments(gates=True)


@pytest.mark.parametrize(
    ("format", "module"),
    [("onnx", "tf2onnx"), ("onnx", "onnx"), ("litert", "ai_edge_litert.interpreter")],
)
def test_a_missing_extra_is_named(model, tmp_path, monkeypatch, format, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'keras-dynnets\[export\]'"):
        export_model(model, tmp_path / "m", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_a_full_disk_leaves_nothing(model, tmp_path, format):
    """A limit on the size of files stands in for a full disk: the write stops in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            OSError, match="m was not written .*; give a path that can be written, with room for it"
        ):
            export_model(model, tmp_path / "m", format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="was not written"):
        export_model(model, tmp_path / "file" / "m.tflite")


def test_a_folder_of_something_else_is_not_replaced(model, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("mine")
    with pytest.raises(OSError, match="no saved_model export"):
        export_model(model, tmp_path / "folder", "saved_model")
    assert (tmp_path / "folder" / "precious").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_saved_model_is_replaced_by_the_next(model, tmp_path):
    first = export_model(model, tmp_path / "m", "saved_model", batch_size=1)
    second = export_model(model, tmp_path / "m", "saved_model")
    assert second.bytes != first.bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.json"]


def test_images_for_the_check_take_the_most_different_paths(model, x):
    chosen, paths = verification_images(model.with_gates(), x, count=4)
    assert len(chosen) == paths == 4


def test_exports_say_that_they_start_from_tensorflow(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    code = (
        "from keras_dynnets import zoo, export; "
        "export.export_model(zoo.load('dmnn20', weights=None), 'm.tflite')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**helpers.os.environ, "KERAS_BACKEND": "jax"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "exports start from TensorFlow graphs" in done.stderr


@pytest.mark.parametrize("format", FORMATS)
def test_any_functional_model_with_one_image_input(tmp_path, format):
    inputs = keras.Input((16, 16, 3), name="photo")
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.5)(x))
    own = helpers.settle(keras.Model(inputs, keras.layers.Dense(3)(x)), helpers.images(8))
    export_model(own, tmp_path / "file", format)
    images = helpers.images(4, seed=3)
    found = run_all(FORMATS[format], tmp_path / "file", images, 1 if format == "litert" else None)[
        "logits"
    ]
    np.testing.assert_allclose(
        found, own.predict(images, verbose=0), atol=1e-4 * np.abs(found).max()
    )


def test_models_that_cannot_be_exported_are_refused_at_once(tmp_path):
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    two = keras.Model([a, b], keras.layers.Add()([a, b]))
    loose = keras.Sequential([keras.layers.Dense(2)])
    for model in (two, loose):
        with pytest.raises(
            ValueError,
            match="an export takes a functional or built Sequential Keras model with one input of "
            "images",
        ):
            export_model(model, tmp_path / "m.tflite")


def test_a_name_of_another_format_is_refused(model, tmp_path):
    with pytest.raises(
        ValueError, match="m.onnx is the name of a file in the format 'onnx', not 'litert'"
    ):
        export_model(model, tmp_path / "m.onnx", "litert")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "format"), [("m.onnx", "onnx"), ("m.tflite", "litert"), ("m.ONNX", "onnx")]
)
def test_the_name_of_a_file_says_its_format(tmp_path, name, format):
    small = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    assert export_model(small, tmp_path / name).format == format


def test_the_form_that_the_user_has_set_does_not_matter(tmp_path):
    made = helpers.scatter_gates(helpers.settle(helpers.tiny(), helpers.images(16)))
    made.execution = "conditional"
    export_model(made, tmp_path / "m.tflite")
    assert made.execution == "conditional"


@pytest.mark.parametrize("batch_size", [1, None])
def test_a_new_head_on_a_dmnn_exports_with_its_gates(tmp_path, batch_size):
    base = helpers.scatter_gates(helpers.tiny(seed=2))
    helpers.settle(base, helpers.images(16))
    model = keras.Model(base.input, keras.layers.Dense(3)(base.get_layer("pool").output))
    report = export_model(
        model, tmp_path / "m.onnx", "onnx", batch_size=batch_size, calibration=helpers.images(8)
    )
    assert report.operations["If"] == base.path_macs.size
    assert (
        export_model(model, tmp_path / "m.tflite", calibration=helpers.images(8)).operations["IF"]
        == base.path_macs.size
    )


def test_a_dmnn_inside_another_model_is_refused_where_its_gates_are_out_of_reach(tmp_path):
    inputs = keras.Input((16, 16, 3))
    outer = keras.Model(inputs, keras.layers.Dense(3)(helpers.tiny()(inputs)))
    with pytest.raises(
        ValueError, match="holds a network with gates as a layer.*build on that network's own graph"
    ):
        export_model(outer, tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.iterdir())
    export_model(outer, tmp_path / "m.tflite")


def test_no_images_to_check_with(model, tmp_path):
    with pytest.raises(ValueError, match=r"with n of 1 or more, not \(0, 16, 16, 3\)"):
        export_model(model, tmp_path / "m.tflite", calibration=np.zeros((0, 16, 16, 3)))


def test_a_file_is_not_replaced_by_a_folder(model, tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(OSError, match="a file is there, and this export is a folder"):
        export_model(model, tmp_path / "m", "saved_model")
    assert (tmp_path / "m").read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_int8_computes_in_integers_and_stays_close(tmp_path):
    x = helpers.images(64, 32)
    model = helpers.settle(zoo.load("resnet20", weights=None), x)
    report = export_model(model, tmp_path / "m.tflite", precision="int8", calibration=x)
    assert 0 < report.max_abs_diff < 0.15 * np.abs(model.predict(x, verbose=0)).max()
    assert report.operations["QUANTIZE"] == report.operations["DEQUANTIZE"] == 1
    full = export_model(model, tmp_path / "full.tflite", calibration=x)
    assert report.bytes < 0.35 * full.bytes


def test_grouped_convolutions_are_one_operation_each(tmp_path):
    x = helpers.images(32)
    inputs = keras.Input((16, 16, 3))
    y = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    y = StackedUnits2D((2, 4, 2), strides=(1, 2))(y)
    y = StackedUnits2D([(2, 3, 2)] * 4 + [(4, 2, 4)] * 2)(y)
    y = GroupedConv2D(24, 3, groups=4)(y)
    model = helpers.settle(
        keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(y))), x
    )
    for name, precision, format in (
        ("a", "fp32", "litert"),
        ("b", "fp16", "litert"),
        ("c", "int8", "litert"),
    ):
        operations = export_model(
            model, tmp_path / name, format, precision, calibration=x
        ).operations
        assert operations["CONV_2D"] == 8
        assert not {"SPLIT", "TILE", "TRANSPOSE"} & set(operations)
    for batch_size in (1, None):
        assert (
            export_model(
                model, tmp_path / "d", "onnx", batch_size=batch_size, calibration=x
            ).operations["Conv"]
            == 8
        )
    export_model(model, tmp_path / "e", "saved_model", calibration=x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "int8 needs calibration=images: some hundred images"),
        (
            {"precision": "int8", "calibration": np.zeros((0, 32, 32, 3))},
            "with n of 1 or more, not .0, 32, 32, 3.",
        ),
        ({"precision": "int8", "format": "onnx"}, "onnx files have no int8, but fp32, fp16"),
    ],
)
def test_int8_refusals(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        model = zoo.load("resnet20", weights=None)
        export_model(model, tmp_path / "m", **{"format": "litert", **arguments})
    assert not list(tmp_path.iterdir())


def test_int8_of_gates_is_refused(model, x, tmp_path):
    with pytest.raises(ValueError, match="has gates, and int8 takes networks without"):
        export_model(model, tmp_path / "m.tflite", precision="int8", calibration=x)


def test_the_global_precision_does_not_matter(tmp_path, half_precision):
    keras.config.set_dtype_policy("float32")
    x = helpers.images(8, 32)
    plain = helpers.settle(zoo.load("resnet20", weights=None), x)
    keras.config.set_dtype_policy("mixed_float16")
    assert "CAST" not in export_model(plain, tmp_path / "m.tflite", calibration=x).operations


def test_weights_beyond_half_precision_are_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    y = keras.layers.BatchNormalization(name="bn")(
        keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    )
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(y)))
    model.get_layer("bn").set_weights([*model.get_layer("bn").get_weights()[:3], np.full(4, 1e5)])
    for format in FORMATS:
        with pytest.raises(ExportError, match="half precision ends at 65504; use fp32"):
            export_model(model, tmp_path / "m", format, "fp16")
    assert not list(tmp_path.iterdir())


def test_models_inside_are_deployed_too(tmp_path, half_precision):
    x = helpers.images(8)
    inner = keras.Sequential(
        [keras.Input((16, 16, 32)), StackedUnits2D((2, 4, 2)), keras.layers.Dropout(0.5)]
    )
    inputs = keras.Input((16, 16, 3))
    y = keras.layers.GlobalAveragePooling2D()(
        inner(keras.layers.Conv2D(32, 3, padding="same")(inputs))
    )
    model = helpers.settle(keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(y)), x)
    operations = export_model(model, tmp_path / "m.tflite", calibration=x).operations
    assert operations["CONV_2D"] == 3 and not {"TILE", "CAST", "TRANSPOSE", "SPLIT"} & set(
        operations
    )


def test_a_sequential_model_exports(tmp_path):
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    assert export_model(model, tmp_path / "m.tflite").images == 4
    flat = keras.Sequential([keras.Input((16,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="one input of images of a fixed size"):
        export_model(flat, tmp_path / "m.tflite")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_images_of_another_size_are_refused(tmp_path, precision):
    plain = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    images = np.zeros((2, 8, 8, 3))
    with pytest.raises(
        ValueError, match=r"takes images of shape \(n, 16, 16, 3\).*not \(2, 8, 8, 3\)"
    ):
        export_model(plain, tmp_path / "m.tflite", precision=precision, calibration=images)
