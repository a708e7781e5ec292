import dataclasses

import numpy as np
import pytest

from keras_dynnets import profile, zoo
from keras_dynnets.profile import Measurement


def by_hand(macs, labels_count=3, gates=None):
    macs = np.asarray(macs)
    gates = np.zeros((len(macs), 2, 2), "uint8") if gates is None else np.asarray(gates, "uint8")
    return Measurement(gates, np.zeros((len(macs), labels_count)), macs, 100)


def test_gates_differ(measurement):
    assert len(np.unique(measurement.macs)) > 3  # or the tests below would see nothing


def test_shapes_and_types(measurement):
    assert (measurement.gates.shape, measurement.gates.dtype) == ((24, 9, 2), np.uint8)
    assert set(np.unique(measurement.gates)) == {0, 1}
    assert (measurement.macs.shape, measurement.macs.dtype) == ((24,), np.int64)
    assert measurement.logits.shape == (24, 10)
    assert measurement.executed_share.shape == measurement.macs_share.shape == (24,)


def test_macs_follow_from_the_gates(measurement, dmnn):
    counted = profile.count(dmnn)
    for gates, macs in zip(measurement.gates, measurement.macs, strict=True):
        assert macs == counted.fixed_macs + sum(
            counted.path_macs[block][path] for block, path in zip(*np.nonzero(gates), strict=True)
        )
    assert measurement.worst_macs == counted.macs


def test_logits_are_the_models(measurement, dmnn, images):
    np.testing.assert_allclose(measurement.logits, dmnn.predict(images, verbose=0), atol=1e-4)


def test_shares_and_means():
    gates = [[[1, 0], [0, 0]], [[1, 1], [1, 0]]]
    measured = by_hand([20, 60], gates=gates)
    assert measured.executed_share.tolist() == [0.25, 0.75]
    assert measured.macs_share.tolist() == [0.2, 0.6]
    assert (measured.mean_macs, measured.mean_macs_share, measured.mean_execution_rate) == (
        40,
        0.4,
        0.5,
    )


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_nothing(measurement, dmnn, images, batch_size):
    again = profile.measure(dmnn, images, batch_size)
    np.testing.assert_array_equal(again.gates, measurement.gates)
    np.testing.assert_allclose(again.logits, measurement.logits, atol=1e-3)


def test_float_images_are_the_same(measurement, dmnn, images):
    np.testing.assert_array_equal(
        profile.measure(dmnn, images.astype("float64")).gates, measurement.gates
    )


def test_model_is_left_alone(dmnn, images):
    dmnn.execution = "masked"
    profile.measure(dmnn, images[:2])
    assert dmnn.execution == "masked"
    dmnn.execution = "auto"


def test_plain_network(images):
    model = zoo.load("resnet20", weights=None)
    measured = profile.measure(model, images)
    assert measured.gates.shape == (24, 0, 0)
    assert measured.macs.tolist() == [40_813_184] * 24
    assert measured.macs.dtype == np.int64
    assert measured.mean_execution_rate == measured.mean_macs_share == 1
    assert measured.execution_rate_by_class(np.zeros(24, int)).shape == (10, 0)
    np.testing.assert_allclose(measured.logits, model.predict(images, verbose=0), atol=1e-4)


def test_execution_rate_by_class():
    gates = [[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 0], [1, 0]]]
    rates = by_hand([1, 1, 1], gates=gates).execution_rate_by_class([2, 2, 0])
    np.testing.assert_array_equal(rates, [[0, 0, 1, 0], [np.nan] * 4, [1, 0.5, 0, 0.5]])


def test_easiest_and_hardest():
    measured = by_hand([5, 9, 1, 9, 5, 7])
    labels = np.array([0, 0, 1, 0, 0, 0])
    easiest, hardest = measured.easiest_and_hardest(labels, 0, 3)
    assert easiest.tolist() == [0, 4, 5]
    assert hardest.tolist() == [1, 3, 5]
    easiest, hardest = measured.easiest_and_hardest(labels, 1, 3)
    assert easiest.tolist() == hardest.tolist() == [2]


def test_a_measurement_is_frozen(measurement):
    with pytest.raises(dataclasses.FrozenInstanceError):
        measurement.macs = None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[0], "image\\[None\\]"),
        (lambda x: x[:0], "n of 1 or more"),
        (lambda x: x[:, :16], "\\(n, 32, 32, 3\\)"),
        (lambda x: x[..., 0], "\\(n, 32, 32, 3\\)"),
        (lambda x: x.astype("int64"), "uint8 or float.*not int64"),
        (lambda x: x > 9, "uint8 or float.*not bool"),
        (lambda x: x.astype("float32") - 9, "undo yours"),
        (lambda x: x.astype("float32") * 2, "undo yours"),
        (lambda x: x * np.float32("nan"), "\\[0, 255\\]"),
        (lambda x: x / np.float32(255), "multiply them by 255"),
    ],
)
def test_wrong_images(dmnn, images, change, message):
    with pytest.raises(ValueError, match=message):
        profile.measure(dmnn, change(images))


def test_black_images_are_images(dmnn):
    assert len(profile.measure(dmnn, np.zeros((2, 32, 32, 3), "float32")).macs) == 2


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1], "shape \\(3,\\)"),
        (np.eye(3, dtype=int), "argmax"),
        ([0.0, 1.0, 2.0], "integers"),
        ([0, 1, 3], "between 0 and 2"),
    ],
)
def test_wrong_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        by_hand([1, 2, 3]).execution_rate_by_class(labels)


def test_wrong_choice_of_images():
    with pytest.raises(ValueError, match="of class 2"):
        by_hand([1, 2, 3]).easiest_and_hardest([0, 1, 1], 2, 1)
    with pytest.raises(ValueError, match="1 or more"):
        by_hand([1, 2, 3]).easiest_and_hardest([0, 1, 1], 1, 0)
