from pathlib import Path

import pooch
import pytest

from keras_dynnets import zoo
from keras_dynnets.zoo.weights import settings


@pytest.fixture(autouse=True)
def nothing_chosen():
    yield
    zoo.set_mirror(None)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("https://example.org/zoo/", "https://example.org/zoo"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("file:///weights/zoo", "file:///weights/zoo"),
        ("/weights/my zoo", "file:///weights/my%20zoo"),
        (Path("/weights/zoo"), "file:///weights/zoo"),
        ("zoo", (Path.cwd() / "zoo").as_uri()),
    ],
)
def test_a_mirror_is_an_address_or_a_folder(given, address, monkeypatch):
    assert settings.mirror() is None
    monkeypatch.setenv("KERAS_DYNNETS_MIRROR", str(given))
    assert settings.mirror() == address
    monkeypatch.setenv("KERAS_DYNNETS_MIRROR", "http://other")
    zoo.set_mirror(given)
    assert settings.mirror() == address  # set_mirror has priority
    zoo.set_mirror(None)
    assert settings.mirror() == "http://other"


@pytest.mark.parametrize(
    "given", ["ftp://a.org", "http://", "https:///zoo", "s3://bucket/zoo", "file:///", "", " "]
)
def test_other_mirrors_are_refused(given, monkeypatch):
    with pytest.raises(ValueError, match="the mirror must be a web address .* or a folder, not"):
        zoo.set_mirror(given)
    assert settings.mirror() is None
    if given:
        monkeypatch.setenv("KERAS_DYNNETS_MIRROR", given)
        with pytest.raises(ValueError, match="KERAS_DYNNETS_MIRROR must be a web address"):
            settings.mirror()


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_DYNNETS_HOME", raising=False)
    assert settings.cache_folder() == Path(pooch.os_cache("keras_dynnets"))
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path))
    assert settings.cache_folder() == tmp_path
    monkeypatch.setenv("KERAS_DYNNETS_HOME", "~/weights")
    assert settings.cache_folder() == Path.home() / "weights"


def test_offline(monkeypatch):
    for value, expected in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("KERAS_DYNNETS_OFFLINE", value)
        assert settings.offline() is expected
    monkeypatch.setenv("KERAS_DYNNETS_OFFLINE", "yes")
    with pytest.raises(ValueError, match="KERAS_DYNNETS_OFFLINE must be 1 .* or 0, not 'yes'"):
        settings.offline()


def test_timeouts(monkeypatch):
    assert settings.timeouts() == (settings.CONNECT_TIMEOUT, settings.READ_TIMEOUT)
    monkeypatch.setenv("KERAS_DYNNETS_TIMEOUT", "2.5")
    assert settings.timeouts() == (2.5, 2.5)
    for value in ("0", "-1", "soon", "nan", "inf"):
        monkeypatch.setenv("KERAS_DYNNETS_TIMEOUT", value)
        with pytest.raises(
            ValueError, match="KERAS_DYNNETS_TIMEOUT must be a number of seconds above 0"
        ):
            settings.timeouts()
