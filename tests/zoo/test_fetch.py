"""What a user gets from servers, caches and machines that fail; the cases and their outcomes are `zoo/FETCHING.md`."""

import functools
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from bad_server import (
    BadServer,
    endless,
    flipped,
    good,
    long,
    loop,
    page,
    redirect,
    reset,
    short,
    silent,
    slow,
    stall,
    status,
    trickle,
    truncated,
)
from helpers import record_fields

from keras_dynnets.zoo import download, settings
from keras_dynnets.zoo.download import FetchError
from keras_dynnets.zoo.fetch import cached_file, cached_index
from keras_dynnets.zoo.records import WeightsRecord, format_index
from keras_dynnets.zoo.weights import SHELF

BODY = np.random.default_rng(0).bytes(100_000)
RECORD = WeightsRecord.model_validate(record_fields(BODY))
NAME = RECORD.file
TIMEOUT = 0.3  # seconds
# The fetching modules in a process of their own, without the packages' __init__, which bring in Keras.
LIGHT = """
import hashlib, json, os, sys, types
for name in ("keras_dynnets", "keras_dynnets.zoo"):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [os.path.join(os.environ["ROOT"], *name.split("."))]
from keras_dynnets.zoo import fetch, records
record = records.WeightsRecord.model_validate(json.loads(os.environ["RECORD"]))
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
print("ready", flush=True)
sys.stdin.readline()
try:
    print(hashlib.sha256(fetch.cached_file(record, os.environ["SOURCE"]).read_bytes()).hexdigest())
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


class World:
    """A cache of one case, and a web server with its ways to answer."""

    def __init__(self, folder, *ways, body=BODY):
        self.home = folder / "cache"
        self.path = self.home / NAME
        self.server = BadServer(body, *(ways or (good,)))
        self.source = f"{self.server.url}/{RECORD.entry}/{NAME}"

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *error):
        self.server.__exit__()

    def fetch(self, source=None):
        """What the user gets: that it is the right file, or the error."""
        began = time.monotonic()
        try:
            path = cached_file(RECORD, source or self.source)
        except (FetchError, OSError) as error:
            told = self.neutral(f"{type(error).__name__}: {error}")
        else:
            assert path == self.path and path.read_bytes() == BODY
            told = "the right file"
        assert time.monotonic() - began < download.longest(RECORD.bytes) + 2  # for a busy machine
        self.assert_clean()
        return told

    def index(self, address=None):
        """What the user gets of the mirror's index."""
        try:
            listed, missed = cached_index(address or self.server.url)
        except (FetchError, ValueError) as error:
            return self.neutral(f"{type(error).__name__}: {error}")
        assert listed == [RECORD]
        return self.neutral(f"the copy of the index, and a warning: {missed}") if missed else "the index"

    def assert_clean(self):
        """No bad file, and no piece of one, is in the cache."""
        files = [p for p in self.home.rglob("*") if p.is_file()] if self.home.is_dir() else []
        assert not [p for p in files if p.suffix == ".part"]
        assert all(p.read_bytes() == BODY for p in files if p.name.endswith(".weights.h5"))

    def neutral(self, text):
        """The text without what differs from run to run."""
        text = text.replace(self.server.url, "http://mirror").replace(str(self.home), "CACHE")
        return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1...", text)

    def process(self, **arguments):
        """A process that fetches the file once a line is written to it."""
        told = {"ROOT": str(SHELF.parent), "RECORD": RECORD.model_dump_json(), "SOURCE": self.source}
        arguments = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **arguments}
        return subprocess.Popen([sys.executable, "-c", LIGHT], env={**os.environ, **told}, **arguments)


# ---- the cases: a function's docstring is its row, its result what the user gets

CASES = {}


def case(*ways, body=BODY):
    def add(function):
        CASES[function.__name__] = functools.partial(_run, function, ways, body)
        return function

    return add


@functools.cache
def outcome(name):
    return CASES[name]()


def _run(function, ways, body):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_DYNNETS_HOME", str(Path(folder) / "cache"))
        patch.setenv("KERAS_DYNNETS_TIMEOUT", str(TIMEOUT))
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(download, "BACKOFF", 0.01)
        with World(Path(folder), *ways, body=body) as world:
            told = function(world, patch)
    return " ".join(function.__doc__.split()), told


@case(good)
def first_time(world, patch):
    """a whole file"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 1
    return "the right file"


@case(good)
def second_time(world, patch):
    """the same file again"""
    world.fetch()
    assert world.fetch() == "the right file" and len(world.server.requests) == 1
    return "the right file, with no request to the server"


@case(truncated)
def always_truncated(world, patch):
    """a body that always ends early"""
    told = world.fetch()
    assert "the connection broke before the end" in told and len(world.server.requests) == 4
    return told


@case(truncated, good)
def truncated_once(world, patch):
    """a body that ends early, once"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 2
    return "the right file, at the second try"


@case(flipped)
def one_bit(world, patch):
    """one bit flipped"""
    told = world.fetch()
    assert "has sha256" in told and f"expected {RECORD.sha256[:8]}" in told and len(world.server.requests) == 1
    return told


@case(short)
def too_short(world, patch):
    """a shorter file"""
    told = world.fetch()
    assert "has 99,900 bytes, expected 100,000" in told
    return told


@case(long)
def too_long(world, patch):
    """a longer file"""
    told = world.fetch()
    assert "bytes, expected 100,000" in told
    return re.sub(r"has [\d,]+ bytes", "has N bytes", told)  # of as much as one block brings


@case(endless)
def never_ends(world, patch):
    """a body that never ends"""
    told = world.fetch()
    assert "bytes, expected 100,000" in told
    return re.sub(r"has [\d,]+ bytes", "has N bytes", told)


@case(status(404))
def not_found(world, patch):
    """404"""
    told = world.fetch()
    assert "the server answers 404 Not Found" in told and len(world.server.requests) == 1
    return told


@case(status(500), status(503), good)
def fails_twice(world, patch):
    """500, then 503, then the file"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 3
    return "the right file, at the third try"


@case(status(500))
def fails(world, patch):
    """500 always"""
    told = world.fetch()
    assert "500 Internal Server Error; given up after 4 tries" in told and len(world.server.requests) == 4
    return told


@case(stall)
def stalls(world, patch):
    """half of the file, then silence"""
    told = world.fetch()
    assert "stays silent for longer than the time-out; given up after 4 tries" in told
    return told


@case(silent, good)
def silent_once(world, patch):
    """no answer at all, once"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 2
    return "the right file, at the second try, after one time-out"


@case(trickle)
def trickles(world, patch):
    """a byte every 20 ms"""
    patch.setattr(download, "SLOWEST", 1_000_000)
    told = world.fetch()
    assert "less than 1,000,000 bytes a second arrive; given up after 4 tries" in told
    return told.replace("1,000,000", "10,000")


@case(reset, good)
def reset_once(world, patch):
    """the connection reset midway, once"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 2
    return "the right file, at the second try"


@case(reset)
def reset_always(world, patch):
    """the connection always reset midway"""
    told = world.fetch()
    assert "the connection broke before the end" in told and len(world.server.requests) == 4
    return re.sub(r"\([^)]*\)", "(...)", told)  # by the system a reset or an end


@case()
def nobody_there(world, patch):
    """no server there"""
    told = world.fetch("http://127.0.0.1:9/shelf/file")  # nothing listens on the port "discard"
    assert "no connection" in told
    return told


@case(redirect)
def redirected(world, patch):
    """a redirect"""
    assert world.fetch() == "the right file" and world.server.requests[1].startswith("/moved/")
    return "the right file"


@case(loop)
def redirected_for_ever(world, patch):
    """redirects without end"""
    told = world.fetch()
    assert "Exceeded 30 redirects" in told
    return told


@case(page)
def web_page(world, patch):
    """an HTML page with status 200"""
    told = world.fetch()
    assert "it looks like a web page" in told and len(world.server.requests) == 1
    return told


@case()
def from_a_folder(world, patch):
    """a folder as the mirror"""
    place = world.home.parent / "shelf" / RECORD.entry
    place.mkdir(parents=True)
    (place / NAME).write_bytes(BODY)
    patch.setenv("KERAS_DYNNETS_MIRROR", str(place.parent))
    source = f"{settings.mirror()}/{RECORD.entry}/{NAME}"
    assert world.fetch(source) == "the right file" and not world.server.requests
    world.path.unlink()
    (place / NAME).write_bytes(BODY[:-1])
    assert "has 99,999 bytes, expected 100,000" in world.fetch(source)
    return "the right file"


@case(good)
def disk_full(world, patch):
    """the disk is full midway (a limit on the size of files stands in for it)"""
    process = world.process(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    told = world.neutral(process.communicate("go\n", 60)[0].split("ready\n")[1].strip())
    assert re.search("OSError: .* cannot keep CACHE/.*File too large; nothing was kept: make room", told)
    world.assert_clean()
    assert world.fetch() == "the right file"  # and a later run is not the worse for it
    return told


@case()
def read_only(world, patch):
    """a cache folder that cannot be made"""
    world.home.write_text("a file where the folder should be")
    told = world.fetch()
    assert "cannot keep CACHE" in told and "KERAS_DYNNETS_HOME" in told
    return told


@case(slow)
def eight_at_once(world, patch):
    """eight processes at once"""
    patch.setenv("KERAS_DYNNETS_TIMEOUT", "20")
    processes = [world.process() for _ in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert {process.communicate(timeout=60)[0].strip() for process in processes} == {RECORD.sha256}
    assert len(world.server.requests) == 1
    world.assert_clean()
    return "the right file in each, with one request to the server"


@case(stall, good)
def killed(world, patch):
    """killed (SIGKILL) midway, then run again"""
    patch.setenv("KERAS_DYNNETS_TIMEOUT", "20")
    process = world.process()
    process.stdin.write("go\n")
    process.stdin.flush()
    part, deadline = world.home / f".{NAME}.part", time.monotonic() + 30
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert part.exists() and not world.path.exists()
    assert world.fetch() == "the right file"  # and of the part nothing is left
    return "the right file; what the killed run left is gone"


@case(good)
def poisoned(world, patch):
    """another file in the cache under its name"""
    world.home.mkdir()
    world.path.write_bytes(BODY[::-1])
    assert world.fetch() == "the right file" and len(world.server.requests) == 1
    return "the right file, downloaded anew"


@case(good)
def poisoned_offline(world, patch):
    """the same with KERAS_DYNNETS_OFFLINE=1"""
    patch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    world.home.mkdir()
    world.path.write_bytes(BODY[::-1])
    told = world.fetch()
    assert "it has been removed" in told and not world.path.exists() and not world.server.requests
    return told


@case(good)
def offline(world, patch):
    """KERAS_DYNNETS_OFFLINE=1, nothing in the cache"""
    patch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    told = world.fetch()
    assert "put the file at CACHE" in told and not world.server.requests
    world.home.mkdir()
    world.path.write_bytes(BODY)  # as it says
    assert world.fetch() == "the right file" and not world.server.requests
    return told


INDEX = format_index([RECORD]).encode()


@case(good, body=INDEX)
def index(world, patch):
    """the index of a mirror, then the mirror gone, then offline"""
    assert world.index() == "the index"
    world.server.ways = (status(503),)
    kept = world.index()
    assert kept.startswith("the copy of the index, and a warning: http://mirror/index.json: the server answers 503")
    seen = len(world.server.requests)
    patch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    assert world.index().startswith("the copy of the index") and len(world.server.requests) == seen
    return f"the index; then {kept}; then the copy"


@case(status(404))
def no_index(world, patch):
    """a mirror without an index"""
    told = world.index()
    assert "no index of weights from http://mirror/index.json" in told
    return told


@case(page)
def index_is_a_page(world, patch):
    """a web page in place of the index"""
    told = world.index()
    assert "http://mirror/index.json is not an index of weights: it is not JSON" in told
    assert not list(world.home.glob("*"))
    return told


def _index(change):
    listed = json.loads(INDEX)
    change(listed)
    return json.dumps(listed).encode()


@case(good, body=_index(lambda listed: listed["weights"][0].update(file=f"../../{NAME}")))
def index_leaves_the_cache(world, patch):
    """an index with a file name that leaves the cache folder"""
    told = world.index()
    assert f"file '../../{NAME}' is refused: it must be a plain name" in told
    return told


@case(good, body=_index(lambda listed: listed.update(version=2, weights={"in": "a new form"})))
def index_of_the_future(world, patch):
    """an index of a later version"""
    told = world.index()
    assert "is an index of version 2, and this keras_dynnets reads version 1: update it" in told
    return told


# ---- the tests


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    row, told = outcome(name)
    assert row and told


def test_fetching_md_tells_of_them():
    pauses = ", ".join(f"{download.BACKOFF * 2**i:.0f}" for i in range(download.TRIES - 1))
    lines = [
        "# Fetching weights: what can go wrong, and what the user gets",
        "",
        "`tests/zoo/test_fetch.py` makes each case happen, with a web server that misbehaves on purpose, and writes",
        "this table when `KERAS_DYNNETS_WRITE_DOCS=1` is set. In no case is anything wrong loaded or left in the cache",
        f"(`CACHE`), and none takes longer than {download.TRIES} tries, with pauses of {pauses} s, of: one time-out to",
        "connect, three to read, and the file's size at "
        f"{download.SLOWEST // 1000} kB/s. The time-outs are {settings.CONNECT_TIMEOUT:.0f} and {settings.READ_TIMEOUT:.0f} s,",
        "or `KERAS_DYNNETS_TIMEOUT`. Looking up a host's name and following redirects come on top.",
        "",
        "| case | what the user gets |",
        "|---|---|",
        *(f"| {row} | {told} |" for row, told in map(outcome, CASES)),
    ]
    text = "\n".join(lines).replace(NAME, "FILE.weights.h5") + "\n"
    path = SHELF / "FETCHING.md"
    if os.environ.get("KERAS_DYNNETS_WRITE_DOCS") == "1":
        path.write_text(text)
    assert path.read_text() == text, "set KERAS_DYNNETS_WRITE_DOCS=1 to write it anew"


def test_the_lock_is_not_waited_for_without_end(tmp_path):
    from keras_dynnets.zoo.lock import locked

    with locked(tmp_path / "lock", 0):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="another process has held"), locked(tmp_path / "lock", 0.2):
            pass
        assert 0.2 <= time.monotonic() - began < 5
    with locked(tmp_path / "lock", 0):
        pass


def test_a_bar_on_a_terminal_for_large_files_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_DYNNETS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    for size, shown in ((1_000, False), (3_000_000, True)):
        body = bytes(size)
        record = WeightsRecord.model_validate(record_fields(body))
        (tmp_path / record.file).write_bytes(body)
        cached_file(record, (tmp_path / record.file).as_uri())
        output = capsys.readouterr()
        assert (record.file[:20] in output.err) == shown and output.out == ""
        assert hashlib.sha256((tmp_path / "cache" / record.file).read_bytes()).hexdigest() == record.sha256
