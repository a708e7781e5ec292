"""What the checkout publishes is what its records and cards say."""

import pytest

from keras_dynnets import profile, zoo
from keras_dynnets.training import load_data
from keras_dynnets.zoo.weights import SHELF, records, verified_file

RECORDS = records()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.entry}-{record.tag}")
def test_a_published_set_of_weights(record):
    path = verified_file(record)
    assert path.stat().st_size == record.bytes
    model = zoo.load(record.entry, weights=record.tag)
    if "macs_all_on" in record.metrics:
        assert profile.count(model).macs == record.metrics["macs_all_on"]
    assert record.sha256 in (SHELF / record.entry / "README.md").read_text()


def test_nothing_lies_on_the_shelf_without_a_record():
    files = {path.name for path in SHELF.rglob("*.h5")}
    assert files == {record.file for record in RECORDS}


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.entry}-{record.tag}")
def test_the_first_thousand_test_images_agree_with_the_card(record):
    try:
        test = load_data(record.tag).test
    except RuntimeError as error:
        pytest.skip(f"the data set is not here: {error}")
    model = zoo.load(record.entry, weights=record.tag)
    right = model.predict(test.images[:1000], batch_size=500, verbose=0).argmax(-1) == test.labels[:1000]
    assert abs(right.mean() - record.metrics["accuracy"]) < 0.04  # four standard deviations of a thousand images
