import pytest

from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.profile import compare_levels, puppet_table
from keras_dynnets.studies.puppet import _varied


def test_sizes_of_the_paper():
    rows = puppet_table()
    assert [row.channels for row in rows] == [64, 128, 256, 512, 1024, 2048, 4096]
    for row in rows:
        assert row.params == row.channels**2 + 15 * row.channels
        assert row.initial_state == 3 * row.channels + 9
        assert f"{4e-6 * row.params:.2f}" == f"{row.printed:.2f}"


@pytest.mark.slow
def test_bench_of_levels(monkeypatch):
    """Checks what is compared; the times themselves are not tested."""
    monkeypatch.setattr("keras_dynnets.studies.puppet.set_tensorflow_threads", lambda threads: None)
    seen = []
    rows = compare_levels(
        "puppet_cnn_128", ["tensorflow", "litert"], repeats=1, progress=seen.append
    )
    assert rows == seen and [(row.runtime, row.batch) for row in rows] == [
        ("tensorflow", 64),
        ("litert", 1),
    ]
    assert all(
        row.macs_share == pytest.approx(1, abs=0.02) and row.ms > 0 and row.baseline_ms > 0
        for row in rows
    )


def test_refused_comparisons():
    with pytest.raises(
        ValueError, match="runtime '?torch'? is unknown; there are tensorflow, tensorflow_per_image"
    ):
        compare_levels("puppet_cnn_128", ["torch"])
    with pytest.raises(ValueError, match="resnet20 has no plain network to be compared with"):
        compare_levels("resnet20", ["tensorflow"])


def test_images_differ_in_complexity():
    found = complexity(_varied(64, (32, 32, 3), 0))
    assert found.min() < 0.6 and found.max() > 0.85
