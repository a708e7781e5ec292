"""Where published weights come from: the folder that came along, the cache, or a mirror."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bad_server import BadServer, good, status
from helpers import record_fields

from keras_dynnets.zoo.weights import published, settings
from keras_dynnets.zoo.weights.download import FetchError
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index

BODY = b"some weights" * 100
ONE, TWO = (WeightsRecord.model_validate(record_fields(BODY, tag=tag)) for tag in ("one", "two"))
OTHER = WeightsRecord.model_validate(record_fields(BODY[::-1], tag="one", entry="dmnn20"))


def put(folder, *records, files=True):
    """Makes a published folder with these records."""
    folder.mkdir()
    (folder / "index.json").write_text(format_index(records))
    for record in records if files else ():
        (folder / record.entry).mkdir(exist_ok=True)
        (folder / record.entry / record.file).write_bytes(BODY)
    return folder


@pytest.fixture(autouse=True)
def nothing(monkeypatch, tmp_path):
    """No published folder, no mirror, and an empty cache; the network is forbidden."""
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "nothing")
    monkeypatch.delenv("KERAS_DYNNETS_MIRROR", raising=False)
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    yield
    published._mirrored.cache_clear()


@pytest.fixture
def downloaded(monkeypatch, tmp_path):
    """The cache after a mirror's weights "one", not "two", have been used; the mirror is gone."""
    mirror = put(tmp_path / "mirror", ONE, TWO)
    monkeypatch.setenv("KERAS_DYNNETS_MIRROR", str(mirror))
    assert published.records() == [ONE, TWO]
    path = published.verified_file(ONE)
    monkeypatch.delenv("KERAS_DYNNETS_MIRROR")
    shutil.rmtree(mirror)
    return path


def test_without_anything_there_are_no_records():
    assert published.published_folder() is None
    assert published.records() == published.records("resnet20") == []
    said = published.where_weights_come_from()
    assert "came without published weights" in said and "KERAS_DYNNETS_MIRROR" in said


def test_the_folder_that_came_along(monkeypatch, tmp_path):
    folder = put(tmp_path / "published", ONE, TWO)
    monkeypatch.setattr(published, "PUBLISHED", folder)
    assert published.published_folder() == folder
    assert published.records() == published.records("resnet20") == [ONE, TWO]
    assert published.records("dmnn20") == []
    assert published.verified_file(TWO) == folder / "resnet20" / TWO.file
    assert not (tmp_path / "cache").exists()
    assert str(folder) in published.where_weights_come_from()


def test_a_downloaded_file_needs_no_mirror_later(downloaded):
    assert published.records() == [ONE]  # the file of "two" is not there
    assert published.verified_file(ONE) == downloaded and downloaded.read_bytes() == BODY


def test_a_damaged_file_in_the_cache_is_refused(downloaded):
    downloaded.write_bytes(BODY[:-1])
    with pytest.raises(
        FetchError, match="has 1,199 bytes, expected 1,200; to download it again, set"
    ):
        published.verified_file(ONE)


def test_the_cache_holds_what_the_folder_lists(monkeypatch, tmp_path):
    folder = put(tmp_path / "zoo", ONE, files=False)
    monkeypatch.setattr(published, "PUBLISHED", folder)
    cached = tmp_path / "cache" / ONE.file
    with pytest.raises(
        FetchError, match=f"is missing; zoo/index.json lists it: restore .* at {cached}"
    ):
        published.verified_file(ONE)
    cached.parent.mkdir()
    cached.write_bytes(BODY)
    assert published.verified_file(ONE) == cached
    (folder / "resnet20").mkdir()
    (folder / "resnet20" / ONE.file).write_bytes(BODY[:-1])  # a damaged file is no reason to fail
    assert published.verified_file(ONE) == cached


def test_the_folder_s_records_come_first(monkeypatch, tmp_path, downloaded):
    own = WeightsRecord.model_validate({**record_fields(BODY, tag="one"), "params": 5})
    monkeypatch.setattr(published, "PUBLISHED", put(tmp_path / "zoo", OTHER, own))
    assert published.records() == [OTHER, own]  # and not ONE, which has the same name
    monkeypatch.setattr(published, "PUBLISHED", put(tmp_path / "zoo2", OTHER))
    assert published.records() == [OTHER, ONE]


def test_an_index_that_cannot_be_read_is_left_out(downloaded, tmp_path):
    (tmp_path / "cache" / "index-00000000.json").write_text('{"version": 2, "weights": 7}')
    assert published.records() == [ONE]


def test_a_mirror_s_index_replaces_the_folder_s(monkeypatch, tmp_path):
    monkeypatch.setattr(published, "PUBLISHED", put(tmp_path / "zoo", ONE, TWO))
    monkeypatch.setenv("KERAS_DYNNETS_MIRROR", str(put(tmp_path / "mirror", OTHER)))
    assert published.records() == [OTHER]
    assert published.where_weights_come_from().endswith(settings.mirror())


def test_the_copy_of_an_index_and_a_cached_file_serve_without_the_mirror(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KERAS_DYNNETS_OFFLINE", "0")
    with BadServer(format_index([ONE]).encode(), good, status(404)) as server:
        monkeypatch.setenv("KERAS_DYNNETS_MIRROR", server.url)
        assert published.records() == [ONE]
        (tmp_path / "cache" / ONE.file).write_bytes(BODY)
        published._mirrored.cache_clear()
        assert published.records() == [ONE]
        assert published.verified_file(ONE).read_bytes() == BODY
        assert server.requests == ["/index.json"] * 2


# The modules in a process of their own, without the packages' __init__, which import Keras.
LIGHT = """
import os, sys, types
for name in ("keras_dynnets", "keras_dynnets.zoo"):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [os.path.join(os.environ["ROOT"], *name.split("."))]
from keras_dynnets.zoo.weights import cards, fill, published
heavy = {"keras", "tensorflow", "numpy", "h5py", "requests", "pooch", "rich"} & set(sys.modules)
assert not heavy, heavy
for record in published.records():
    print(published.verified_file(record))
"""


def run_light(root):
    command = [sys.executable, "-c", LIGHT]
    environment = {**os.environ, "ROOT": str(root)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_an_installed_package_finds_its_own_weights(tmp_path):
    """The package is laid out as pip installs it, away from the checkout, offline."""
    package = Path(published.__file__).parents[2]
    installed = tmp_path / "site-packages" / "keras_dynnets"
    for folder in ("core", "zoo"):
        shutil.copytree(package / folder, installed / folder)
    assert run_light(installed.parent) == []
    folder = put(installed / "published", ONE)
    assert run_light(installed.parent) == [str(folder / "resnet20" / ONE.file)]
