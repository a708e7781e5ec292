"""`keras-dynnets weights` as a user types it."""

import json
import os
import subprocess
import sys
import threading
import urllib.request

import helpers
import pytest

from keras_dynnets import zoo
from keras_dynnets.cli.weights import published_server
from keras_dynnets.zoo.weights import published
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index

BODY = b"some weights" * 100
RECORDS = [
    WeightsRecord.model_validate(helpers.record_fields(BODY, tag=tag)) for tag in ("one", "two")
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout's published folder with two files, and an empty cache."""
    folder = tmp_path / "zoo"
    (folder / "resnet20").mkdir(parents=True)
    (folder / "index.json").write_text(format_index(RECORDS))
    for record in RECORDS:
        (folder / "resnet20" / record.file).write_bytes(BODY)
    monkeypatch.setattr(published, "PUBLISHED", folder)
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def mirror(folder, tmp_path, monkeypatch):
    """The same folder behind a web server, and no checkout."""
    with published_server(folder, 0) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        monkeypatch.setenv("KERAS_DYNNETS_MIRROR", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(published, "PUBLISHED", tmp_path / "nothing")
        published._mirrored.cache_clear()
        yield folder
        server.shutdown()
    published._mirrored.cache_clear()


def test_list(command, folder):
    code, output = command("weights", "list")
    assert code == 0
    rows = [line.split()[:3] for line in output.out.splitlines()]
    assert rows == [["resnet20", "one", "50.00%"], ["resnet20", "two", "50.00%"]]
    code, output = command("weights", "list", "--json")
    assert code == 0
    assert [WeightsRecord.model_validate(fields) for fields in json.loads(output.out)] == RECORDS


def test_fetch_from_the_checkout_copies_nothing(command, folder, tmp_path):
    code, output = command("weights", "fetch", "resnet20")
    assert code == 0 and output.out.split() == [str(folder / "resnet20" / r.file) for r in RECORDS]
    assert not (tmp_path / "cache").exists()


def test_fetch_from_a_mirror(command, mirror, tmp_path, monkeypatch):
    place = tmp_path / "cache" / RECORDS[1].file
    code, output = command("weights", "fetch", "resnet20:two")
    assert code == 0 and output.out.strip() == str(place) and place.read_bytes() == BODY
    assert not (tmp_path / "cache" / RECORDS[0].file).exists()
    monkeypatch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    assert command("weights", "fetch", "resnet20:two")[0] == 0
    code, output = command("weights", "fetch", "resnet20:one")
    assert code == 2 and "KERAS_DYNNETS_OFFLINE forbids" in output.err


@pytest.mark.parametrize("name", ["resnet20:three", "resnet21", ":one"])
def test_fetch_lists_what_there_is(command, folder, name):
    code, output = command("weights", "fetch", "resnet20:one", name)
    assert (
        code == 2
        and f"no published weights '{name}'; there are resnet20:one, resnet20:two" in output.err
    )


def test_without_published_weights_the_messages_say_what_to_set(
    command, folder, monkeypatch, tmp_path
):
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    advice = "set KERAS_DYNNETS_MIRROR (or call zoo.set_mirror)"
    code, output = command("weights", "list")
    assert code == 0 and output.out == "" and output.err.startswith("no published weights: ")
    assert advice in output.err
    assert command("weights", "list", "--json")[1].out == "[]\n"
    code, output = command("weights", "fetch", "resnet20")
    assert code == 2 and "no published weights 'resnet20'; there are none" in output.err
    assert advice in output.err
    assert command("weights", "verify")[1].out == "0 files, 0 wrong\n"
    for arguments in (("cards",), ("publish", tmp_path)):
        code, output = command("weights", *arguments)
        assert code == 2 and "this command works in a checkout" in output.err
    code, output = command("weights", "serve")
    assert (
        code == 2 and f"no published weights to serve: {tmp_path} has no index.json" in output.err
    )
    with pytest.warns(zoo.UntrainedModelWarning, match="no weights of resnet20 are published"):
        assert zoo.load("resnet20").name == "resnet20"
    with pytest.raises(ValueError, match="resnet20 has no weights 'cifar10'.*KERAS_DYNNETS_MIRROR"):
        zoo.load("resnet20", weights="cifar10")
    assert zoo.list_models(pretrained=True) == []
    assert zoo.load("resnet20", weights=None).name == "resnet20"
    assert zoo.info("resnet20").weights == () and zoo.labels("resnet20", "my.weights.h5") is None


def test_an_installed_package_is_not_changed(command, folder, monkeypatch):
    monkeypatch.setattr(published, "PACKAGED", folder)
    for arguments in (("cards",), ("publish", folder)):
        code, output = command("weights", *arguments)
        assert code == 2 and "this command works in a checkout" in output.err
    assert not (folder / "results.csv").exists()


def test_verify(command, folder, tmp_path):
    code, output = command("weights", "verify")
    assert code == 0 and output.out.splitlines()[-1] == "2 files, 0 wrong"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / RECORDS[0].file).write_bytes(BODY[::-1])
    (folder / "resnet20" / RECORDS[1].file).unlink()
    code, output = command("weights", "verify")
    assert code == 1 and output.out.splitlines()[-1] == "3 files, 2 wrong"
    assert f"wrong: {tmp_path / 'cache' / RECORDS[0].file} has sha256" in output.out
    assert f"wrong: {folder / 'resnet20' / RECORDS[1].file} is missing" in output.out


def test_verify_of_a_cache(command, mirror, tmp_path):
    assert command("weights", "verify")[1].out == "0 files, 0 wrong\n"
    command("weights", "fetch", "resnet20")
    code, output = command("weights", "verify")
    assert code == 0 and output.out.count("right: ") == 2
    (tmp_path / "cache" / RECORDS[0].file).write_bytes(BODY[:-1])
    code, output = command("weights", "verify")
    assert code == 1 and "has 1,199 bytes, expected 1,200" in output.out


def test_cards(command, folder):
    code, output = command("weights", "cards")
    assert code == 0 and str(folder / "results.csv") in output.out
    assert RECORDS[0].sha256 in (folder / "resnet20" / "README.md").read_text()
    assert command("weights", "cards")[1].out == "nothing to change\n"


def test_serve(tmp_path):
    """The real weights, served by another process; the line that it prints is the one to use."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "keras_dynnets.cli", "weights", "serve", "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("export KERAS_DYNNETS_MIRROR=http://127.0.0.1:")
        address = line.partition("=")[2]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert (
            opener.open(f"{address}/index.json", timeout=10).read()
            == (published.PUBLISHED / "index.json").read_bytes()
        )
    finally:
        process.kill()
        process.communicate()
