"""Exported files in the hands of others: batches, precision, sameness, delegates (section E)."""

import functools
import json

import helpers
import keras
import numpy as np
import pytest

from keras_dynnets.export import ExportError, export_model
from keras_dynnets.export.deployment import deploy
from keras_dynnets.export.formats.base import format_named
from keras_dynnets.export.scores import gate_scores, nearest
from keras_dynnets.export.verify import check, keras_outputs, run_file
from keras_dynnets.families.dmnn.forced_gates import with_forced_gates
from keras_dynnets.families.dmnn.path_controller import PathController

SIZE = 16
LITERT = format_named("litert")


@pytest.fixture(scope="module", autouse=True)
def _same_weights():
    keras.utils.set_random_seed(3)


def gated(**arguments):
    """A DMNN whose gates differ between images."""
    model = helpers.tiny(backbone="two", **arguments)
    return helpers.scatter_gates(helpers.settle(model, helpers.images(16)))


def inside_another():
    """A DMNN as a layer of another model."""
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), gated(), keras.layers.Dense(3)])


def flattening():
    """A plain network whose file holds a reshape to one image."""
    shape = keras.Input((SIZE, SIZE, 3))
    flat = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(shape))
    return keras.Model(shape, keras.layers.Dense(3)(flat))


KINDS = {
    "dmnn": gated,
    "dmnn inside another": inside_another,
    "puppet": lambda: helpers.generated(levels=2),
    "cnsn": lambda: helpers.detachable_parts(10, (SIZE, SIZE, 3)),
    "flattening": flattening,
}


@pytest.fixture(scope="module")
def model_of():
    """Gives the one model of a kind that its tests share."""
    return functools.cache(lambda kind: KINDS[kind]())


@pytest.fixture(scope="module")
def file_of(model_of, tmp_path_factory):
    """Exports a model once for all tests that read its file: the path and the report."""

    @functools.cache
    def exported(kind, name, **options):
        path = tmp_path_factory.mktemp("files") / name
        return path, export_model(model_of(kind), path, **options)

    return exported


def one_by_one(run, images):
    return np.concatenate([run(images=image[None])["logits"] for image in images])


# ---- E1


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        *((kind, "fp32") for kind in KINDS),
        pytest.param("dmnn inside another", "fp16", marks=pytest.mark.slow),
    ],
)
def test_e1_a_batch_through_a_file_for_one_image_is_right_or_refused(file_of, kind, precision):
    """E1: the gates of the first image decided for all. Reported at tensorflow#37012."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path, _ = file_of(kind, "m.tflite", precision=precision)
    x = helpers.images(4, seed=5)
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        for name in Interpreter(str(path)).get_signature_list():
            one, several = (
                Interpreter(str(path), experimental_op_resolver_type=resolver) for _ in range(2)
            )
            wanted = one_by_one(one.get_signature_runner(name), x)
            try:
                found = several.get_signature_runner(name)(images=x)["logits"]
            except RuntimeError:
                found = None
            assert found is None or "dmnn" not in kind
            if found is not None:
                helpers.assert_close(found, wanted, 1e-4)
    interpreter = Interpreter(str(path))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    if "dmnn" in kind:
        with pytest.raises(RuntimeError, match="failed to prepare"):
            interpreter.allocate_tensors()


@pytest.mark.parametrize("format", ["onnx", "saved_model"])
def test_e1_other_files_for_one_image_refuse_a_batch(file_of, format):
    x = helpers.images(4)
    path, _ = file_of("dmnn", "m", format=format, batch_size=1)
    run = format_named(format).runner(path)
    assert len(run(images=x[:1])["logits"]) == 1
    with pytest.raises(Exception, match=r"(?i)dimension|shape"):
        run(images=x)
    if format == "onnx":
        _refuses_several_after_a_change_of_the_batch_axis(path)


def _refuses_several_after_a_change_of_the_batch_axis(path):
    """Tools that change the batch axis of a file do not know what its conditions ask for."""
    import onnx
    import onnxruntime

    proto = onnx.load(path)
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    assert session.run(None, {"images": helpers.images(1)})[0].shape == (1, 10)
    with pytest.raises(Exception, match="If"):
        session.run(None, {"images": helpers.images(4)})


# ---- E2


def test_e2_half_precision_rounds_what_the_file_holds(tmp_path):
    """E2: converters fold the difference of two kernel columns and round that.

    The file's gates and logits are those of the network with rounded weights, far closer than the
    tolerance, unless a gate is undecided.
    """
    model, x = gated(seed=4), helpers.images(64, seed=9)
    path = tmp_path / "m.tflite"
    report = export_model(model.deployments(gates=True), path, precision="fp16", calibration=x)
    assert report.images == len(x)
    rounded = deploy(model.with_gates(), "masked", half=True)
    found, wanted = run_file(LITERT.runner(path), x, 1), keras_outputs(rounded, x)
    decided = nearest(gate_scores(rounded, x)) > 1e-4
    assert decided.sum() > 50
    np.testing.assert_array_equal(found["gates"][decided], wanted["gates"][decided])
    helpers.assert_close(found["logits"][decided], wanted["logits"][decided], 1e-4)

    exact = model.with_gates().predict(x, verbose=0)
    flipped = (found["gates"] != exact["gates"]).any((1, 2))
    assert report.gate_flips == flipped.sum()
    difference = np.abs(found["logits"] - exact["logits"]).max()
    np.testing.assert_allclose(report.max_abs_diff, difference, rtol=1e-3)


def all_open():
    """A DMNN whose gates are all open."""
    return helpers.force_gates(helpers.tiny(backbone="two"), np.ones((2, 2)))


def on_the_edge():
    """A DMNN with a gate of the last block whose score is 0 but for the rounding of W3."""
    model = all_open()
    kernel, bias = helpers.layers_of(model, PathController)[-1].logits.weights
    columns = np.zeros(kernel.shape, "float32")
    columns[:, 0], columns[:, 1] = 1.0, 1.0002  # their difference is lost where they are rounded
    kernel.assign(columns)
    bias.assign([0.0, 0.0, 0.0, 100.0])
    return model


def test_e2_columns_that_differ_by_less_than_their_rounding_keep_their_difference(tmp_path):
    model, x = on_the_edge(), helpers.images(8)
    report = export_model(model, tmp_path / "m.tflite", precision="fp16", calibration=x)
    assert (helpers.gates_of(model, x) == 1).all()
    assert report.gate_flips == 0 and report.images == 8


class _Changed:
    """A file whose logits differ for some images."""

    def __init__(self, network, wrong):
        self.network, self.wrong = network, wrong

    def __call__(self, images):
        found = keras_outputs(self.network, images)
        found["logits"][: self.wrong] += 1.0
        return {"logits": found["logits"]}


def test_e2_other_logits_are_an_error_unless_a_gate_is_undecided():
    x = helpers.images(20)
    decided = all_open().with_gates()
    with pytest.raises(ExportError, match="its logits differ from Keras's"):
        check(_Changed(decided, 1), decided, x, 20, "fp32")
    model = all_open()
    helpers.layers_of(model, PathController)[0].logits.bias.assign([0.0, 1e-6, 0.0, 100.0])
    undecided = model.with_gates()
    assert check(_Changed(undecided, 2), undecided, x, 20, "fp32")[3] == 2
    with pytest.raises(ExportError, match="for 3 of 20 images other gates open than in Keras"):
        check(_Changed(undecided, 3), undecided, x, 20, "fp32")
    assert check(_Changed(undecided, 3), undecided, x, 20, "fp32", given=False)[3] == 3
    assert check(_Changed(undecided, 3), undecided, x[:15], 15, "fp32")[3] == 3


def test_e2_large_images_run_few_at_once():
    """E2: Keras keeps every tensor between the layers of a batch."""
    seen = []
    model = helpers.tiny(10, (66, 66, 3), "two")
    layer = helpers.layers_of(model, PathController)[0]
    scores = layer.scores
    layer.scores = lambda x, *rest, **options: (seen.append(len(x)), scores(x, *rest, **options))[1]
    assert gate_scores(model.with_gates(), helpers.images(6, 66)).shape[0] == 6
    assert seen == [4, 2]


# ---- E9


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("flattening", "litert"),
        ("flattening", "onnx"),
        ("cnsn", "litert"),
        ("dmnn", "onnx"),
        ("puppet", "onnx"),
        ("flattening", "saved_model"),
    ],
)
def test_e9_a_fixed_batch(model_of, tmp_path, kind, format):
    model, path, x = model_of(kind), tmp_path / "m", helpers.images(8, seed=2)
    report = export_model(model, path, format, batch_size=8)
    assert report.batch_size == 8 and report.images == 8
    run = format_named(format).runner(path, part="base" if kind == "cnsn" else None)
    helpers.assert_close(run(images=x)["logits"], model.predict(x, verbose=0), 1e-4)
    if format == "onnx":
        with pytest.raises(Exception, match=r"(?i)dimension"):
            run(images=x[:3])


def test_e9_int8_with_a_fixed_batch(tmp_path):
    report = export_model(
        flattening(), tmp_path / "m.tflite", precision="int8", batch_size=3,
        calibration=helpers.images(20),
    )  # fmt: skip
    assert report.batch_size == 3 and report.images == 20


@pytest.mark.parametrize("kind", ["dmnn", "dmnn inside another", "puppet"])
def test_e9_files_that_decide_for_each_image_take_one_or_any_number(model_of, tmp_path, kind):
    model = model_of(kind)
    with pytest.raises(ValueError, match="batch_size=8 is refused: .* file .* takes 1 a call"):
        export_model(model, tmp_path / "m.tflite", batch_size=8)
    with pytest.raises(ValueError, match="batch_size=8 is refused: .* takes any number or 1 a"):
        export_model(model, tmp_path / "m", "saved_model", batch_size=8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch_size", [0, -1])
def test_e9_no_batch(tmp_path, batch_size):
    with pytest.raises(ValueError, match="batch_size must be an integer of 1 or more"):
        export_model(flattening(), tmp_path / "m.onnx", batch_size=batch_size)


# ---- E8


@pytest.mark.parametrize("kind", ["dmnn", "puppet", "flattening"])
def test_e8_no_images_give_no_logits(model_of, file_of, kind):
    """E8: ONNX Runtime's Scan said "Invalid dim0_offset"."""
    model, (path, _) = model_of(kind), file_of(kind, "m.onnx")
    run, x = format_named("onnx").runner(path), helpers.images(3)
    for count in (0, 3, 1):
        wanted = np.asarray(model(x[:3]))[:count]
        found = run(images=x[:count])["logits"]
        assert found.shape == wanted.shape
        if count:
            helpers.assert_close(found, wanted, 1e-4)


# ---- E11


@pytest.mark.parametrize(("name", "precision"), [("m.tflite", "int8"), ("m.onnx", "fp32")])
def test_e11_a_file_with_open_gates_has_no_conditions(model_of, tmp_path, name, precision):
    model, x = model_of("dmnn"), helpers.images(20)
    assert (helpers.gates_of(model, x) == 0).any()
    report = export_model(
        model.deployments(gates="open"), tmp_path / name, precision=precision, calibration=x
    )
    assert not {"IF", "If", "Scan", "WHILE"} & set(report.operations)
    forced = np.full((len(x), 2, 2), 1e4, "float32")
    wanted = np.asarray(with_forced_gates(model)([x, forced])["logits"])
    run = format_named(report.format).runner(tmp_path / name)
    found = run_file(run, x, report.batch_size)["logits"]
    helpers.assert_close(found, wanted, 0.15 if precision == "int8" else 1e-4)
    helpers.assert_close(report.max_abs_diff, np.abs(found - wanted).max(), 1e-3)


def test_e11_gates_have_three_values(model_of, tmp_path):
    model = model_of("dmnn")
    for wrong in ("closed", 1, None, ["open"]):
        with pytest.raises(ValueError, match='gates is True .* "open" for a file'):
            model.deployments(gates=wrong)
    with pytest.raises(ValueError, match="int8 takes networks without.*gates='open'"):
        export_model(model, tmp_path / "m.tflite", precision="int8", calibration=helpers.images(4))


# ---- E10

HASHES = """
import json, pathlib, tempfile
import helpers, keras
from keras_dynnets.export import export_model

model = keras.models.load_model(MODEL)
folder = pathlib.Path(tempfile.mkdtemp())
FORMS = [("m.tflite", 1), ("m.onnx", 1), ("any.onnx", None)]
found = [export_model(model, folder / name, batch_size=size).sha256 for name, size in FORMS]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_e10_the_same_export_in_two_processes_gives_the_same_bytes(model_of, file_of, tmp_path):
    """E10: counters of the process stood in the names of an ONNX file."""
    model_of("dmnn").save(tmp_path / "m.keras")
    code = f"MODEL = {str(tmp_path / 'm.keras')!r}\n{HASHES}"
    elsewhere = helpers.run_python(code, PYTHONHASHSEED="12")
    here = (("m.tflite", {}), ("m.onnx", {"batch_size": 1}), ("m.onnx", {}))
    found = [file_of("dmnn", name, **options)[1].sha256 for name, options in here]
    assert json.loads(elsewhere.splitlines()[-1]) == found


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
@pytest.mark.parametrize("kind", ["dmnn", "puppet", "flattening"])
def test_e10_the_same_export_twice_gives_the_same_bytes(model_of, file_of, tmp_path, kind, name):
    again = export_model(model_of(kind), tmp_path / name)
    assert again.sha256 == file_of(kind, name)[1].sha256


def test_e10_branches_keep_the_alignment_of_weights(file_of):
    from ai_edge_litert import schema_py_generated as schema

    path, _ = file_of("dmnn", "m.tflite")
    model = schema.Model.GetRootAsModel(path.read_bytes(), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    names = [model.Subgraphs(i).Name() for i in range(model.SubgraphsLength())]
    assert len(names) > 4 and len(set(names)) == len(names)  # of several conditions
    filled = [b for b in buffers if b.DataLength() > 16]
    assert len(filled) > 10
    assert {b._tab.Vector(b._tab.Offset(4)) % 16 for b in filled} == {0}


# ---- E5


def test_e5_a_saved_model_for_one_image_converts(model_of, file_of):
    """E5: the operation EnsureShape of a SavedModel is unknown to converters."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    model, x = model_of("dmnn"), helpers.images(3)
    for size in (None, 1):
        path, report = file_of("dmnn", "m", format="saved_model", batch_size=size)
        assert "EnsureShape" not in report.operations
        told = json.loads(path.with_name("m.json").read_text())
        assert "takes a network with gates with batch_size=1" in told["note"]
    content = tf.lite.TFLiteConverter.from_saved_model(str(path)).convert()
    run = Interpreter(model_content=content).get_signature_runner()
    helpers.assert_close(one_by_one(run, x), model.predict(x, verbose=0), 1e-4)
