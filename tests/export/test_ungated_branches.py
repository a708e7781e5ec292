"""Branches that cost less than the condition before them run ungated in the exported files."""

import helpers
import keras
import numpy as np
import pytest

from keras_dynnets.core.conditional import gated_layers
from keras_dynnets.export import deploy, export_model
from keras_dynnets.export.formats.base import formats

FORMATS = {known.name: known for known in formats()}
FILES = [(name, size) for name, known in FORMATS.items() for size in known.batch_sizes]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(7)  # the weights do not depend on the tests that ran before
    return helpers.scatter_gates(helpers.settle(helpers.tiny(seed=1), helpers.images(16)))


def conditions(report):
    return sum(report.operations.get(kind, 0) for kind in ("IF", "If", "StatelessIf"))


@pytest.mark.parametrize(("format", "batch_size"), FILES)
def test_cheap_branches_have_no_condition_and_gates_still_count(
    model, tmp_path, monkeypatch, format, batch_size
):
    target, x = FORMATS[format], helpers.images(12, seed=5)
    wanted = model.with_gates().predict(x, verbose=0)
    assert len(np.unique(wanted["gates"].reshape(len(x), -1), axis=0)) >= 3
    least, most = int(model.path_macs.min()), int(model.path_macs.max())
    cheap = int((model.path_macs == least).sum())
    reports = []
    for threshold in (least, most):
        monkeypatch.setattr(target, "always_up_to", {batch_size: threshold})
        path = tmp_path / f"file{threshold}"
        with_gates = model.deployments(gates=True)
        report = export_model(with_gates, path, format, batch_size=batch_size, calibration=x)
        run, step = target.runner(path), batch_size or len(x)
        results = [run(images=x[i : i + step]) for i in range(0, len(x), step)]
        found = {key: np.concatenate([result[key] for result in results]) for key in wanted}
        np.testing.assert_array_equal(found["gates"], wanted["gates"])
        np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-4)
        reports.append(report)
    every = model.path_macs.size
    assert 0 < cheap < every
    assert [report.ungated_branches for report in reports] == [cheap, every]
    counts = [conditions(report) for report in reports]
    if target.own_runtime:
        assert counts == [every - cheap, 0]
    else:  # a SavedModel has several conditions for a pair of branches
        monkeypatch.setattr(target, "always_up_to", {})
        path = tmp_path / "before"
        before = export_model(model, path, format, batch_size=batch_size, calibration=x)
        assert conditions(before) > counts[0] > counts[1] == before.ungated_branches == 0
    if format == "onnx":  # without conditions, a batch needs no loop over its images
        loops = [report.operations.get("Scan", 0) for report in reports]
        assert loops == [batch_size is None, False]


@pytest.mark.parametrize(
    ("format", "batch_size"), [("litert", 1), ("onnx", 1), ("saved_model", None)]
)
def test_a_block_may_have_branches_of_both_kinds(model, tmp_path, monkeypatch, format, batch_size):
    chosen = zip(gated_layers(model), [(0,), (1,), ()], strict=True)
    for layer, cheap in chosen:
        monkeypatch.setattr(layer, "cheap_branches", lambda runs_always, cheap=cheap: cheap)
    x = helpers.images(8, seed=5)
    report = export_model(model, tmp_path / "file", format, batch_size=batch_size, calibration=x)
    assert report.ungated_branches == 2 and report.paths >= 3
    if format != "saved_model":
        assert conditions(report) == model.path_macs.size - 2


def test_the_threshold_is_that_of_the_batch_size(model, monkeypatch):
    target, most = FORMATS["onnx"], int(model.path_macs.max())
    monkeypatch.setattr(target, "always_up_to", {1: most})
    for batch_size, always in ((1, (0, 1)), (None, ())):
        deployed = deploy(model.with_gates(), "all", target=target, batch_size=batch_size)
        assert {layer.always for layer in gated_layers(deployed)} == {always}
    assert {layer.always for layer in gated_layers(deploy(model.with_gates()))} == {()}
