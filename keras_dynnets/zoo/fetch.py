"""Published files, cached and verified: each is downloaded once, arrives whole, or is an error.

What a path of the cache has is either nothing, or was the right file when it came; it is hashed again at every use.
"""

import contextlib
import hashlib
import os

from keras_dynnets.zoo.download import FetchError, longest, receive
from keras_dynnets.zoo.lock import locked
from keras_dynnets.zoo.records import parse_index
from keras_dynnets.zoo.settings import cache_folder, offline

BAR_FROM = 1_000_000  # bytes; smaller files come without a progress bar
INDEX_LIMIT = 1_000_000  # bytes


def sha256(path):
    """The hash of a file, as 64 digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path, record):
    """What is wrong with the file of a record; None where nothing is.

    Args:
        path: of the file.
        record: the `WeightsRecord`, with the length and the hash that are expected.
    """
    if not path.is_file():
        return "is missing"
    if (found := path.stat().st_size) != record.bytes:
        return f"has {found:,} bytes, expected {record.bytes:,}" + _page(path)
    if (found := sha256(path)) != record.sha256:
        return f"has sha256 {found}, expected {record.sha256}" + _page(path)
    return None


def _page(path):
    """A remark for the error where a file is no weights but a web page, as a portal or a proxy may send."""
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    return "; it looks like a web page" if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")) else ""


def cached_file(record, source):
    """The file of a record in the cache, downloaded where it is not there, or not the right one.

    Of many processes that ask at once, one downloads. They wait for it for no longer than it may take.

    Args:
        record: the `WeightsRecord`.
        source: the address of the file.

    Returns:
        Its path, once length and hash have been checked.

    Raises:
        FetchError: the file cannot be had, or is another one than was published; nothing stays in the cache.
        OSError: the cache cannot be written.
    """
    path = cache_folder() / record.file
    hint = f"Without a network: put the file at {path}"
    with _writing(path):
        if not (wrong := fault(path, record)):
            return path
        forbidden = offline() and not source.startswith("file://")
        if forbidden and not path.exists():
            raise FetchError(f"{path} is missing and KERAS_DYNNETS_OFFLINE forbids to get it from {source}. {hint}")
        with _draft(path, record.bytes) as draft:
            if not (wrong := fault(path, record)):
                return path  # another process has been faster
            path.unlink(missing_ok=True)
            if forbidden:
                raise FetchError(
                    f"{path} {wrong}; it has been removed, and KERAS_DYNNETS_OFFLINE forbids to get another "
                    f"from {source}. {hint}"
                )
            try:
                _download(source, draft, record)
            except FetchError as error:
                raise FetchError(f"{error}. {hint}") from error
            if wrong := fault(draft, record):
                raise FetchError(f"what {source} gives {wrong}; it has not been kept. {hint}")
            os.replace(draft, path)
    return path


def _download(source, draft, record):
    with open(draft, "xb") as file, _bar(record) as advance:

        def start():
            file.seek(0)
            file.truncate()
            advance(None)
            return write

        def write(block):
            file.write(block)
            advance(len(block))

        receive(source, record.bytes, start)


def cached_index(address):
    """The records of a mirror's index, and a copy of it in the cache for when the mirror cannot be reached.

    Args:
        address: of the mirror.

    Returns:
        The records, and None or, where they are the copy's, why.

    Raises:
        FetchError: the mirror cannot be reached, and there is no copy.
        ValueError: it holds something that is no index.
    """
    source = f"{address}/index.json"
    path = cache_folder() / f"index-{hashlib.sha256(address.encode()).hexdigest()[:8]}.json"
    if offline() and not address.startswith("file://"):
        missed = "KERAS_DYNNETS_OFFLINE forbids to ask for it"
    else:
        text = bytearray()

        def start():
            text.clear()
            return text.extend

        try:
            receive(source, INDEX_LIMIT, start)
        except FetchError as error:
            missed = str(error)
        else:
            listed = parse_index(bytes(text), source)
            with contextlib.suppress(OSError), _draft(path, INDEX_LIMIT) as draft:  # a cache without it still serves
                draft.write_bytes(text)
                os.replace(draft, path)
            return listed, None
    if not path.is_file():
        raise FetchError(f"no index of weights from {source}, and no copy of it in the cache ({missed})")
    return parse_index(path.read_bytes(), path), missed


@contextlib.contextmanager
def _draft(path, size):
    """A path beside `path` to write it under, for one process at a time; nothing stays of it.

    It is the same for all, so that what a killed process left goes when the next one comes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    with locked(path.with_name(f".{path.name}.lock"), longest(size)):
        draft.unlink(missing_ok=True)
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path):
    """Says what to do about a cache that cannot be written."""
    try:
        yield
    except TimeoutError as error:
        raise FetchError(f"{path}: {error}; end that process, or wait for it") from error
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "make room, or name a folder that can be written with KERAS_DYNNETS_HOME"
        raise OSError(error.errno, f"cannot keep {path}: {reason}; nothing was kept: {advice}") from error


@contextlib.contextmanager
def _bar(record):
    """A function to tell of received bytes (None: from the start), shown on a terminal for what takes a while."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(record.file), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    shown = console.is_terminal and record.bytes > BAR_FROM
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=record.bytes)

        def advance(count):
            progress.reset(task) if count is None else progress.advance(task, count)

        yield advance
