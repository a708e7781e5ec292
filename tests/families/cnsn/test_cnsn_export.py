"""A CNSN as one file of all its models."""

import json

import keras
import numpy as np
import pytest
from helpers import compiled, detachable_base, images, labels

from keras_dynnets import cnsn
from keras_dynnets.export import export_model
from keras_dynnets.export.deployment import deploy_parts
from keras_dynnets.export.formats import litert, saved_model
from keras_dynnets.export.formats.onnx import format as onnx

X, Y = images(16), labels(16)
FORMATS = {module.FORMAT.name: module.FORMAT for module in (litert, onnx, saved_model)}
PLACES = {"litert": "m.tflite", "onnx": "m", "saved_model": "m"}


def trained(batch_norm="own", **options):
    keras.utils.set_random_seed(0)
    base = detachable_base((128, 256))
    model = compiled(
        cnsn.detachable(base, ("stage1", "stage2"), batch_norm=batch_norm, **options),
        jit_compile=False,
    )
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module", params=["own", "shared"])
def model(request):
    return trained(request.param)


@pytest.fixture(scope="module")
def wide():
    return trained(widths=(0.5,))


@pytest.mark.parametrize("format", FORMATS)
def test_every_part_answers_as_in_keras(model, tmp_path, format):
    report = export_model(model, tmp_path / PLACES[format], format)
    assert report.max_abs_diff < 1e-3 and report.top1_agreement == 1
    x = X[:1] if format == "litert" else X
    for name in model.names:
        found = FORMATS[format].runner(tmp_path / PLACES[format], part=name)(images=x)["logits"]
        np.testing.assert_allclose(found, model.part(name).predict(x, verbose=0), atol=1e-3)


def weights_of(path):
    """Bytes of a file, or of what a SavedModel has beside its graph."""
    variables = path / "variables"
    return sum(f.stat().st_size for f in variables.iterdir()) if variables.is_dir() else None


@pytest.mark.parametrize("format", FORMATS)
def test_weights_are_there_once(model, tmp_path, format):
    alone = tmp_path / f"base{ {'litert': '.tflite', 'onnx': '.onnx'}.get(format, '') }"
    whole = tmp_path / PLACES[format]
    reports = [
        export_model(network, path, format)
        for network, path in ((model.detach(0), alone), (model, whole))
    ]
    base, all_parts = [
        weights_of(path) or report.bytes
        for path, report in zip((alone, whole), reports, strict=True)
    ]
    assert all_parts < 1.02 * base


@pytest.mark.parametrize("format", FORMATS)
def test_half_precision(model, tmp_path, format):
    whole = export_model(model, tmp_path / PLACES[format], format)
    half = export_model(model, tmp_path / PLACES[format], format, "fp16")
    assert half.bytes < 0.53 * whole.bytes


def test_parts_alone_are_folded(wide, tmp_path):
    for part in (wide.detach(1), wide.detach(2, 0.5)):
        report = export_model(part, tmp_path / "part.tflite")
        assert report.operations.get("DEPTHWISE_CONV_2D", 0) == 0
        assert report.operations["CONV_2D"] == (3 if "sub1" in part.name else 2)


def test_widths_bring_weights_of_their_own(wide, tmp_path):
    report = export_model(wide, tmp_path / "m.tflite")
    base = export_model(wide.detach(0), tmp_path / "base.tflite")
    assert (
        1.2 * base.bytes < report.bytes < 1.35 * base.bytes
    )  # half the width is a quarter of the weights


def test_a_batch_norm_that_multiplies_by_nothing_is_not_folded():
    model = trained()
    norm = model.base.get_layer("stage3_bn")
    norm.gamma.assign(np.where(np.arange(norm.gamma.shape[0]) < 4, 0.0, norm.gamma))
    for name, part in deploy_parts(model.deployments().networks).items():
        np.testing.assert_allclose(
            part.predict(X, verbose=0), model.part(name).predict(X, verbose=0), atol=1e-3
        )


def test_int8_of_a_part(wide, tmp_path):
    report = export_model(wide.detach(1), tmp_path / "part.tflite", precision="int8", calibration=X)
    assert report.bytes < 0.3 * export_model(wide.detach(1), tmp_path / "float.tflite").bytes
    with pytest.raises(ValueError, match="int8 is for one network a file; export a part of small"):
        export_model(wide, tmp_path / "m.tflite", precision="int8", calibration=X)


def test_description_and_refusals(model, tmp_path):
    export_model(model, tmp_path / "folder", "onnx", labels=[str(i) for i in range(10)])
    assert json.loads((tmp_path / "folder.json").read_text())["model"] == "small"
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == [
        "base.onnx",
        "sub1.onnx",
        "sub2.onnx",
        "weights.data",
    ]
    export_model(model, tmp_path / "folder", "onnx")  # replaced whole
    with pytest.raises(
        ValueError,
        match="together make a folder in the format onnx; give its name, without '.onnx'",
    ):
        export_model(model, tmp_path / "m.onnx", "onnx")
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match="a folder that is no onnx export is there"):
        export_model(model, tmp_path / "other", "onnx")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="a file is there, and this export is a folder"):
        export_model(model, tmp_path / "file", "onnx")
    assert (tmp_path / "file").read_text() == "mine"
