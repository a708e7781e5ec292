"""The published weights are what their records, cards and tables say."""

import math
import shutil

import numpy as np
import pytest

from keras_dynnets import profile, zoo
from keras_dynnets.core.dynamic import interface
from keras_dynnets.training import load_data
from keras_dynnets.training.data.datasets import SOURCES
from keras_dynnets.zoo.weights import published
from keras_dynnets.zoo.weights.cache import fault
from keras_dynnets.zoo.weights.cards import card_texts

FOLDER = published.PUBLISHED
RECORDS = published.records()
each_record = pytest.mark.parametrize(
    "record", RECORDS, ids=lambda record: f"{record.entry}-{record.tag}"
)


@each_record
def test_a_published_set_of_weights(record):
    """Its figures are counted again on the file and on the model."""
    path = published.verified_file(record)
    assert fault(path, record) is None and path.stat().st_size == record.bytes
    model = zoo.load(record.entry, weights=record.tag)
    assert record.params == sum(math.prod(w.shape) for w in model.trainable_weights)
    assert (
        record.macs == profile.count(model).macs == record.metrics.get("macs_all_on", record.macs)
    )
    assert 0 < record.macs_mean <= record.macs
    if "macs_share" in record.metrics:
        assert record.macs_mean / record.macs == pytest.approx(record.metrics["macs_share"])
    assert interface(model).logits_tensor.shape[-1] == len(record.classes)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    # Older trainings add that they read the images from a copy in JPEG.
    assert record.data_source.startswith(SOURCES[record.recipe["data"]])


def test_a_copy_of_the_folder_as_a_mirror(monkeypatch, tmp_path):
    """The cache gives the same weights as the checkout, the second time without the mirror."""
    smallest = min(RECORDS, key=lambda record: record.bytes)
    copy = tmp_path / "zoo"
    (copy / smallest.entry).mkdir(parents=True)
    for name in ("index.json", f"{smallest.entry}/{smallest.file}"):
        shutil.copy(FOLDER / name, copy / name)
    own = zoo.load(smallest.entry, smallest.tag).get_weights()
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "nothing")
    zoo.set_mirror(copy)
    try:
        for _ in range(2):
            loaded = zoo.load(smallest.entry, smallest.tag).get_weights()
            assert all(np.array_equal(a, b) for a, b in zip(loaded, own, strict=True))
            shutil.rmtree(copy, ignore_errors=True)
            published._mirrored.cache_clear()
        other = next(record for record in RECORDS if record != smallest)
        with pytest.raises(RuntimeError, match=f"put the file at .*{other.file}"):
            zoo.load(other.entry, other.tag)
    finally:
        zoo.set_mirror(None)
        published._mirrored.cache_clear()


def test_cards_tables_and_results_are_what_the_command_writes():
    texts = card_texts(FOLDER)
    named = {path.relative_to(FOLDER.parent).as_posix() for path in texts}
    models = {f"zoo/{record.entry}/README.md" for record in RECORDS}
    assert named == {"docs/published.md", "zoo/results.csv", *models}
    for path, text in texts.items():
        assert path.read_text() == text, f"{path} differs: run keras-dynnets weights cards"
    for record in RECORDS:
        assert record.sha256 in texts[FOLDER / record.entry / "README.md"]


def test_pictures_are_in_the_cards_and_the_page():
    pictures = list(FOLDER.glob("*/*.png"))
    assert pictures
    for picture in pictures:
        assert f"({picture.name})" in (picture.parent / "README.md").read_text()
    assert [picture.name for picture in FOLDER.glob("*.png")] == ["published.png"]
    assert "(../zoo/published.png)" in (FOLDER.parent / "docs" / "training.md").read_text()


def test_every_weights_file_has_a_record():
    files = {path.name for path in FOLDER.rglob("*.h5")}
    assert files == {record.file for record in RECORDS}


@pytest.mark.slow
@each_record
def test_the_first_thousand_test_images_agree_with_the_card(record):
    try:
        test = load_data(record.recipe["data"]).test
    except RuntimeError as error:
        pytest.skip(f"the data set is not here: {error}")
    model = zoo.load(record.entry, weights=record.tag)
    logits = model.predict(test.images[:1000], batch_size=500, verbose=0)
    accuracy = (logits.argmax(-1) == test.labels[:1000]).mean()
    # 0.04 is four standard deviations of the accuracy on a thousand images.
    assert abs(accuracy - record.metrics["accuracy"]) < 0.04
