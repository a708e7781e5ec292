"""What the checkout publishes is what its records, cards and tables say."""

import math
import shutil

import numpy as np
import pytest
from keras_dynnets.zoo.cards import cards
from keras_dynnets.zoo.fetch import fault

from keras_dynnets import profile, zoo
from keras_dynnets.training import load_data
from keras_dynnets.training.data.datasets import SOURCES
from keras_dynnets.zoo import weights
from keras_dynnets.zoo.weights import SHELF, records, verified_file

RECORDS = records()
each_record = pytest.mark.parametrize(
    "record", RECORDS, ids=lambda record: f"{record.entry}-{record.tag}"
)


@each_record
def test_a_published_set_of_weights(record):
    """Its figures are counted once more on the file and on the model."""
    path = verified_file(record)
    assert fault(path, record) is None and path.stat().st_size == record.bytes
    model = zoo.load(record.entry, weights=record.tag)
    assert record.params == sum(math.prod(w.shape) for w in model.trainable_weights)
    assert (
        record.macs == profile.count(model).macs == record.metrics.get("macs_all_on", record.macs)
    )
    assert 0 < record.macs_mean <= record.macs
    if "macs_share" in record.metrics:
        assert record.macs_mean / record.macs == pytest.approx(record.metrics["macs_share"])
    logits = (
        model.output
        if not isinstance(model.output, dict)
        else model.output.get("logits", model.output.get("base"))
    )
    assert logits.shape[-1] == len(record.classes)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert record.data_source == SOURCES[record.recipe["data"]]


def test_a_copy_of_the_shelf_as_a_mirror(monkeypatch, tmp_path):
    """What is loaded through the cache is what the checkout has; the second time not even the mirror is needed."""
    smallest = min(RECORDS, key=lambda record: record.bytes)
    copy = tmp_path / "zoo"
    (copy / smallest.entry).mkdir(parents=True)
    for name in ("index.json", f"{smallest.entry}/{smallest.file}"):
        shutil.copy(SHELF / name, copy / name)
    own = zoo.load(smallest.entry, smallest.tag).get_weights()
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "SHELF", tmp_path / "nothing")
    zoo.set_mirror(copy)
    try:
        for _ in range(2):
            loaded = zoo.load(smallest.entry, smallest.tag).get_weights()
            assert all(np.array_equal(a, b) for a, b in zip(loaded, own, strict=True))
            shutil.rmtree(copy, ignore_errors=True)
            weights._mirrored.cache_clear()
        other = next(record for record in RECORDS if record != smallest)
        with pytest.raises(RuntimeError, match=f"put the file at .*{other.file}"):
            zoo.load(other.entry, other.tag)
    finally:
        zoo.set_mirror(None)
        weights._mirrored.cache_clear()


def test_cards_tables_and_results_are_what_the_command_writes():
    texts = cards(SHELF)
    named = {path.relative_to(SHELF.parent).as_posix() for path in texts}
    assert named == {"README.md", "zoo/results.csv", *(f"zoo/{r.entry}/README.md" for r in RECORDS)}
    for path, text in texts.items():
        assert path.read_text() == text, (
            f"{path} differs: keras-dynnets weights cards writes it anew"
        )
    for record in RECORDS:
        assert record.sha256 in texts[SHELF / record.entry / "README.md"]


def test_the_pictures_on_the_shelf_are_in_its_cards():
    pictures = list(SHELF.glob("*/*.png"))
    assert pictures
    for picture in pictures:
        assert f"({picture.name})" in (picture.parent / "README.md").read_text()
    assert [picture.name for picture in SHELF.glob("*.png")] == ["shelf.png"]
    assert "(zoo/shelf.png)" in (SHELF.parent / "README.md").read_text()


def test_nothing_lies_on_the_shelf_without_a_record():
    files = {path.name for path in SHELF.rglob("*.h5")}
    assert files == {record.file for record in RECORDS}


@pytest.mark.slow
@each_record
def test_the_first_thousand_test_images_agree_with_the_card(record):
    try:
        test = load_data(record.recipe["data"]).test
    except RuntimeError as error:
        pytest.skip(f"the data set is not here: {error}")
    model = zoo.load(record.entry, weights=record.tag)
    right = (
        model.predict(test.images[:1000], batch_size=500, verbose=0).argmax(-1)
        == test.labels[:1000]
    )
    assert (
        abs(right.mean() - record.metrics["accuracy"]) < 0.04
    )  # four standard deviations of a thousand images
