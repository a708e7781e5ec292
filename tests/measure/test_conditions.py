import dataclasses

import numpy as np
import pytest

from keras_dynnets.core.cost import conv_macs
from keras_dynnets.export.formats.base import formats
from keras_dynnets.layers import MultiPath
from keras_dynnets.measure import conditions
from keras_dynnets.measure.conditions import (
    ConditionCost,
    condition_costs,
    gated_network,
    largest_without_condition,
)

ROW = ConditionCost("onnx", 1, 1, 8, 4, 100, always_ms=1.0, open_ms=1.2, closed_ms=0.2, rate_ms=0.9)


@pytest.fixture(autouse=True)
def any_threads(monkeypatch):
    monkeypatch.setattr(conditions, "set_tensorflow_threads", lambda threads: None)
    monkeypatch.setattr(conditions, "SECONDS", 0.01)


def test_a_row_for_each_runtime_batch_size_and_branch():
    shown, before = [], [dict(target.always_up_to) for target in formats()]
    rows = condition_costs(["litert", "onnx"], (4,), (8,), progress=shown.append)
    assert rows == shown
    assert [(row.runtime, row.batch_size, row.batch, row.side) for row in rows] == [
        ("litert", 1, 1, 8),
        ("onnx", None, 16, 8),
        ("onnx", 1, 1, 8),
    ]
    for row in rows:
        side = (row.side, row.side)
        assert row.macs == conv_macs((*side, 4), (3, 3), 8) + conv_macs((*side, 8), (3, 3), 4)
        assert min(row.always_ms, row.open_ms, row.closed_ms, row.rate_ms) > 0
        assert (row.cells()["condition pays"] == "yes") == row.pays
        if row.batch == 1:
            assert row.rate_ms == pytest.approx(0.7 * row.open_ms + 0.3 * row.closed_ms, abs=1e-4)
    assert [target.always_up_to for target in formats()] == before


def test_the_gates_decide_what_runs():
    network = gated_network(MultiPath, 4, 4)
    images = np.random.default_rng(0).uniform(0, 255, (10, 4, 4, 3))
    results = {}
    for rate in (0.0, 0.7, 1.0):
        gates = conditions._gates(10, rate)
        assert (gates.sum(0) == 10 * rate).all()
        results[rate] = network.predict([images, gates], verbose=0)
    different = np.abs(results[0.7] - results[1.0]).max(-1) > 1e-4
    assert different.any() and not np.allclose(results[0.0], results[1.0])


def test_the_threshold_is_the_largest_branch_whose_condition_does_not_pay():
    slow = dataclasses.replace(ROW, rate_ms=1.0)
    rows = [
        slow,
        dataclasses.replace(slow, macs=300),
        dataclasses.replace(ROW, macs=400),
        dataclasses.replace(ROW, batch_size=None, macs=50),
    ]
    assert ROW.pays and not slow.pays
    assert largest_without_condition(rows) == {"onnx": {1: 300, None: 0}}


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="runtime coreml is unknown; there are litert"):
        condition_costs(["coreml"])
