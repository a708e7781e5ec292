"""`keras-dynnets weights` as a user types it."""

import os
import subprocess
import sys
import threading
import urllib.request

import helpers
import pytest

from keras_dynnets import zoo
from keras_dynnets.cli_weights import shelf_server
from keras_dynnets.zoo import weights
from keras_dynnets.zoo.records import WeightsRecord, format_index

BODY = b"some weights" * 100
RECORDS = [WeightsRecord.model_validate(helpers.record_fields(BODY, tag=tag)) for tag in ("one", "two")]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A checkout's shelf with two files, and an empty cache."""
    folder = tmp_path / "zoo"
    (folder / "resnet20").mkdir(parents=True)
    (folder / "index.json").write_text(format_index(RECORDS))
    for record in RECORDS:
        (folder / "resnet20" / record.file).write_bytes(BODY)
    monkeypatch.setattr(weights, "SHELF", folder)
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def mirror(shelf, tmp_path, monkeypatch):
    """The same shelf behind a web server, and no checkout."""
    with shelf_server(shelf, 0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("KERAS_DYNNETS_MIRROR", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(weights, "SHELF", tmp_path / "nothing")
        weights._mirrored.cache_clear()
        yield shelf
        server.shutdown()
    weights._mirrored.cache_clear()


def test_list(command, shelf):
    code, output = command("weights", "list")
    assert code == 0
    rows = [line.split()[:3] for line in output.out.splitlines()]
    assert rows == [["resnet20", "one", "50.00%"], ["resnet20", "two", "50.00%"]]


def test_fetch_from_the_checkout_copies_nothing(command, shelf, tmp_path):
    code, output = command("weights", "fetch", "resnet20")
    assert code == 0 and output.out.split() == [str(shelf / "resnet20" / r.file) for r in RECORDS]
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
def test_fetch_lists_what_there_is(command, shelf, name):
    code, output = command("weights", "fetch", "resnet20:one", name)
    assert code == 2 and f"no published weights '{name}'; there are resnet20:one, resnet20:two" in output.err


def test_without_a_shelf_the_error_says_what_to_set(command, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "SHELF", tmp_path)
    for arguments in (("list",), ("fetch", "resnet20"), ("verify",)):
        code, output = command("weights", *arguments)
        assert code == 2 and "set KERAS_DYNNETS_MIRROR (or call zoo.set_mirror)" in output.err
    for arguments in (("cards",), ("serve",)):
        code, output = command("weights", *arguments)
        assert code == 2 and "this command works in a checkout" in output.err
    with pytest.raises(RuntimeError, match="no shelf of published weights here"):
        zoo.load("resnet20")
    with pytest.raises(RuntimeError, match="no shelf of published weights here"):
        zoo.list_models(pretrained=True)
    assert zoo.load("resnet20", weights=None).name == "resnet20"
    assert zoo.info("resnet20").weights == () and zoo.labels("resnet20", "my.weights.h5") is None


def test_verify(command, shelf, tmp_path):
    code, output = command("weights", "verify")
    assert code == 0 and output.out.splitlines()[-1] == "2 files, 0 wrong"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / RECORDS[0].file).write_bytes(BODY[::-1])
    (shelf / "resnet20" / RECORDS[1].file).unlink()
    code, output = command("weights", "verify")
    assert code == 1 and output.out.splitlines()[-1] == "3 files, 2 wrong"
    assert f"wrong: {tmp_path / 'cache' / RECORDS[0].file} has sha256" in output.out
    assert f"wrong: {shelf / 'resnet20' / RECORDS[1].file} is missing" in output.out


def test_verify_of_a_cache(command, mirror, tmp_path):
    assert command("weights", "verify")[1].out == "0 files, 0 wrong\n"
    command("weights", "fetch", "resnet20")
    code, output = command("weights", "verify")
    assert code == 0 and output.out.count("right: ") == 2
    (tmp_path / "cache" / RECORDS[0].file).write_bytes(BODY[:-1])
    code, output = command("weights", "verify")
    assert code == 1 and "has 1,199 bytes, expected 1,200" in output.out


def test_cards(command, shelf):
    code, output = command("weights", "cards")
    assert code == 0 and str(shelf / "results.csv") in output.out
    assert RECORDS[0].sha256 in (shelf / "resnet20" / "README.md").read_text()
    assert command("weights", "cards")[1].out == "nothing to change\n"


def test_serve(tmp_path):
    """The real shelf in a process of its own; the line that it prints is the one to use."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "keras_dynnets.cli", "weights", "serve", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("export KERAS_DYNNETS_MIRROR=http://127.0.0.1:")
        address = line.partition("=")[2]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(f"{address}/index.json", timeout=10).read() == (weights.SHELF / "index.json").read_bytes()
    finally:
        process.kill()
        process.communicate()
