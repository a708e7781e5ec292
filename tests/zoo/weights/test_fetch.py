"""What a user gets when servers, caches and machines fail.

`docs/downloading.md` lists the cases and their outcomes in a table that this file generates.
"""

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

from keras_dynnets.zoo.weights import download, settings
from keras_dynnets.zoo.weights.cache import cached_file, cached_index
from keras_dynnets.zoo.weights.download import FetchError
from keras_dynnets.zoo.weights.lock import locked
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "downloading.md"
BODY = np.random.default_rng(0).bytes(100_000)
RECORD = WeightsRecord.model_validate(record_fields(BODY))
NAME = RECORD.file
TIMEOUT = 0.3  # seconds
# A process that downloads, without the packages' __init__, which import Keras.
LIGHT = """
import hashlib, json, os, sys, types
for name in ("keras_dynnets", "keras_dynnets.zoo"):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [os.path.join(os.environ["ROOT"], *name.split("."))]
from keras_dynnets.zoo.weights import cache, records
record = records.WeightsRecord.model_validate(json.loads(os.environ["RECORD"]))
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
print("ready", flush=True)
sys.stdin.readline()
try:
    print(hashlib.sha256(cache.cached_file(record, os.environ["SOURCE"]).read_bytes()).hexdigest())
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


class World:
    """The cache of one case, and a web server that answers in the given ways."""

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
        """Returns what the user gets: "the right file", or the error."""
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
        """Returns what the user gets of the mirror's index."""
        try:
            listed, missed = cached_index(address or self.server.url)
        except (FetchError, ValueError) as error:
            return self.neutral(f"{type(error).__name__}: {error}")
        assert listed == [RECORD]
        return (
            self.neutral(f"the copy of the index, and a warning: {missed}")
            if missed
            else "the index"
        )

    def assert_clean(self):
        """Checks that the cache holds no wrong and no incomplete file."""
        files = [p for p in self.home.rglob("*") if p.is_file()] if self.home.is_dir() else []
        assert not [p for p in files if p.suffix == ".part"]
        assert all(p.read_bytes() == BODY for p in files if p.name.endswith(".weights.h5"))

    def neutral(self, text):
        """Returns the text without what differs between runs."""
        text = text.replace(self.server.url, "http://mirror").replace(str(self.home), "CACHE")
        return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1...", text)

    def process(self, **arguments):
        """Starts a process that downloads the file once it has read a line."""
        told = {"ROOT": str(ROOT), "RECORD": RECORD.model_dump_json(), "SOURCE": self.source}
        arguments = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **arguments}
        return subprocess.Popen(
            [sys.executable, "-c", LIGHT], env={**os.environ, **told}, **arguments
        )


# ---- the cases: the docstring and the result of each function are a row of the table

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
    """the server sends the file"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 1
    return "the right file"


@case(good)
def second_time(world, patch):
    """the same file is requested again"""
    world.fetch()
    assert world.fetch() == "the right file" and len(world.server.requests) == 1
    return "the right file, with no request to the server"


@case(truncated)
def always_truncated(world, patch):
    """every response ends early"""
    told = world.fetch()
    assert "the connection broke before the end" in told and len(world.server.requests) == 4
    return told


@case(truncated, good)
def truncated_once(world, patch):
    """the first response ends early"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 2
    return "the right file, at the second attempt"


@case(flipped)
def one_bit(world, patch):
    """one bit of the file is wrong"""
    told = world.fetch()
    assert (
        "has sha256" in told
        and f"expected {RECORD.sha256[:8]}" in told
        and len(world.server.requests) == 1
    )
    return told


@case(short)
def too_short(world, patch):
    """the file is too short"""
    told = world.fetch()
    assert "has 99,900 bytes, expected 100,000" in told
    return told


@case(long)
def too_long(world, patch):
    """the file is too long"""
    told = world.fetch()
    assert "bytes, expected 100,000" in told
    return re.sub(r"has [\d,]+ bytes", "has N bytes", told)  # of as much as one block brings


@case(endless)
def never_ends(world, patch):
    """the response never ends"""
    told = world.fetch()
    assert "bytes, expected 100,000" in told
    return re.sub(r"has [\d,]+ bytes", "has N bytes", told)


@case(status(404))
def not_found(world, patch):
    """the server answers 404"""
    told = world.fetch()
    assert "the server answers 404 Not Found" in told and len(world.server.requests) == 1
    return told


@case(status(500), status(503), good)
def fails_twice(world, patch):
    """the server answers 500, then 503, then sends the file"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 3
    return "the right file, at the third attempt"


@case(status(500))
def fails(world, patch):
    """the server always answers 500"""
    told = world.fetch()
    assert (
        "500 Internal Server Error; gave up after 4 attempts" in told
        and len(world.server.requests) == 4
    )
    return told


@case(stall)
def stalls(world, patch):
    """the server sends half of the file and then nothing"""
    told = world.fetch()
    assert "stays silent for longer than the time-out; gave up after 4 attempts" in told
    return told


@case(silent, good)
def silent_once(world, patch):
    """the server does not answer the first request"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 2
    return "the right file, at the second attempt, after one time-out"


@case(trickle)
def trickles(world, patch):
    """the server sends a byte every 20 ms"""
    patch.setattr(download, "SLOWEST", 1_000_000)
    told = world.fetch()
    assert "fewer than 1,000,000 bytes per second arrive; gave up after 4 attempts" in told
    return told.replace("1,000,000", "10,000")


@case(reset, good)
def reset_once(world, patch):
    """the first connection is reset midway"""
    assert world.fetch() == "the right file" and len(world.server.requests) == 2
    return "the right file, at the second attempt"


@case(reset)
def reset_always(world, patch):
    """every connection is reset midway"""
    told = world.fetch()
    assert "the connection broke before the end" in told and len(world.server.requests) == 4
    return re.sub(r"\([^)]*\)", "(...)", told)  # by the system a reset or an end


@case()
def nobody_there(world, patch):
    """there is no server at the address"""
    told = world.fetch("http://127.0.0.1:9/zoo/file")  # nothing listens on the port "discard"
    assert "no connection" in told
    return told


@case(redirect)
def redirected(world, patch):
    """the server redirects to another address"""
    assert world.fetch() == "the right file" and world.server.requests[1].startswith("/moved/")
    return "the right file"


@case(loop)
def redirected_for_ever(world, patch):
    """the server redirects without end"""
    told = world.fetch()
    assert "Exceeded 30 redirects" in told
    return told


@case(page)
def web_page(world, patch):
    """the server sends an HTML page with status 200, such as a login page"""
    told = world.fetch()
    assert "it looks like a web page" in told and len(world.server.requests) == 1
    return told


@case()
def from_a_folder(world, patch):
    """the mirror is a folder"""
    place = world.home.parent / "zoo" / RECORD.entry
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
    """the disk is full midway (the test limits the size of files instead)"""
    process = world.process(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    )
    told = world.neutral(process.communicate("go\n", 60)[0].split("ready\n")[1].strip())
    assert re.search(
        "OSError: .* cannot write CACHE/.*File too large; nothing was kept. Free some space", told
    )
    world.assert_clean()
    assert world.fetch() == "the right file"  # a later run works
    return told


@case()
def read_only(world, patch):
    """the cache folder cannot be created"""
    world.home.write_text("a file where the folder should be")
    told = world.fetch()
    assert "cannot write CACHE" in told and "KERAS_DYNNETS_HOME" in told
    return told


@case(slow)
def eight_at_once(world, patch):
    """eight processes request the file at once"""
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
    """the process is killed (SIGKILL) midway and started again"""
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
    assert world.fetch() == "the right file"  # the incomplete file is removed
    return "the right file; the incomplete file of the killed process is removed"


@case(good)
def poisoned(world, patch):
    """the cache holds another file under the same name"""
    world.home.mkdir()
    world.path.write_bytes(BODY[::-1])
    assert world.fetch() == "the right file" and len(world.server.requests) == 1
    return "the right file, downloaded anew"


@case(good)
def poisoned_offline(world, patch):
    """the same with `KERAS_DYNNETS_OFFLINE=1`"""
    patch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    world.home.mkdir()
    world.path.write_bytes(BODY[::-1])
    told = world.fetch()
    assert "it has been removed" in told and not world.path.exists() and not world.server.requests
    return told


@case(good)
def offline(world, patch):
    """`KERAS_DYNNETS_OFFLINE=1`, and the cache is empty"""
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
    """the index is read; then the mirror fails; then `KERAS_DYNNETS_OFFLINE=1`"""
    assert world.index() == "the index"
    world.server.ways = (status(503),)
    kept = world.index()
    assert kept.startswith(
        "the copy of the index, and a warning: http://mirror/index.json: the server answers 503"
    )
    seen = len(world.server.requests)
    patch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    assert world.index().startswith("the copy of the index") and len(world.server.requests) == seen
    return f"the index; then {kept}; then the copy"


@case(status(404))
def no_index(world, patch):
    """the mirror has no index"""
    told = world.index()
    assert "no index of weights from http://mirror/index.json" in told
    return told


@case(page)
def index_is_a_page(world, patch):
    """the mirror sends a web page instead of the index"""
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
    """the index holds a file name that is outside the cache folder"""
    told = world.index()
    assert f"file '../../{NAME}' is refused: it must be a plain name" in told
    return told


@case(good, body=_index(lambda listed: listed.update(version=2, weights={"in": "a new form"})))
def index_of_the_future(world, patch):
    """the index has a later version"""
    told = world.index()
    assert "is an index of version 2, and this keras_dynnets reads version 1: update" in told
    return told


# ---- the tests


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    row, told = outcome(name)
    assert row and told


BEGIN, END = (
    "<!-- cases: tests/zoo/weights/test_fetch.py writes this part -->",
    "<!-- end of cases -->",
)


def test_the_page_lists_the_cases():
    pauses = ", ".join(f"{download.BACKOFF * 2**i:.0f}" for i in range(download.TRIES - 1))
    lines = [
        BEGIN,
        f"A download takes at most {download.TRIES} attempts, with pauses of {pauses} s between "
        "them. Each attempt may take one time-out to connect, three time-outs to read, and the "
        f"time that the file takes at {download.SLOWEST // 1000} kB/s. The time-out is "
        f"{settings.CONNECT_TIMEOUT:.0f} s to connect and {settings.READ_TIMEOUT:.0f} s to read, "
        "or what `KERAS_DYNNETS_TIMEOUT` says for both. Looking up the host name and following "
        "redirects are not included.",
        "",
        "| What happens | What you get |",
        "|---|---|",
        *(f"| {row} | {told} |" for row, told in map(outcome, CASES)),
        END,
    ]
    part = "\n".join(lines).replace(NAME, "FILE.weights.h5")
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{PAGE} needs the lines {BEGIN} and {END}"
    if os.environ.get("KERAS_DYNNETS_WRITE_DOCS") == "1":
        PAGE.write_text(before + part + after)
    text = PAGE.read_text()
    assert text == before + part + after, "KERAS_DYNNETS_WRITE_DOCS=1 writes the part anew"


def test_the_lock_is_not_waited_for_without_end(tmp_path):
    with locked(tmp_path / "lock", 0):
        began = time.monotonic()
        with (
            pytest.raises(TimeoutError, match="another process has held"),
            locked(tmp_path / "lock", 0.2),
        ):
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
        assert (
            hashlib.sha256((tmp_path / "cache" / record.file).read_bytes()).hexdigest()
            == record.sha256
        )
