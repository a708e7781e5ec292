"""The cache of downloaded files: each file is complete and verified, or it is not there.

A file is written under another name and renamed once its size and checksum are right. Both are
checked again at every use.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_dynnets.zoo.weights.download import FetchError, longest, receive
from keras_dynnets.zoo.weights.lock import locked
from keras_dynnets.zoo.weights.records import WeightsRecord, parse_index
from keras_dynnets.zoo.weights.settings import cache_folder, offline

BAR_FROM = 1_000_000  # bytes; smaller files are downloaded without a progress bar
INDEX_LIMIT = 1_000_000  # bytes


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 checksum of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, record: WeightsRecord) -> str | None:
    """Compares a file with its record.

    Args:
        path: the file.
        record: record with the size and the checksum that the file must have.

    Returns:
        What is wrong, such as "is missing"; None if the file is the published one.
    """
    if not path.is_file():
        return "is missing"
    if (found := path.stat().st_size) != record.bytes:
        return f"has {found:,} bytes, expected {record.bytes:,}" + _page(path)
    if (found := sha256(path)) != record.sha256:
        return f"has sha256 {found}, expected {record.sha256}" + _page(path)
    return None


def _page(path: Path) -> str:
    """Returns a remark for the error if a file is a web page, as a login portal may send it."""
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    looks = start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
    return "; it looks like a web page" if looks else ""


def cached_file(record: WeightsRecord, source: str) -> Path:
    """Returns the cached file of a record; downloads it if it is missing or wrong.

    If several processes ask for the same file, one of them downloads it and the others wait, but
    no longer than the download may take.

    Args:
        record: record of the file.
        source: address of the file.

    Returns:
        Path of the file in the cache; its size and checksum have been checked.

    Raises:
        FetchError: the file could not be downloaded, or is not the published one. Nothing is kept.
        OSError: the cache folder cannot be written.
    """
    path = cache_folder() / record.file
    hint = f"To do without the network, put the file at {path}"
    with _writing(path):
        if not (wrong := fault(path, record)):
            return path
        forbidden = offline() and not source.startswith("file://")
        if forbidden and not path.exists():
            raise FetchError(
                f"{path} is missing, and KERAS_DYNNETS_OFFLINE forbids downloading it from "
                f"{source}. {hint}"
            )
        with _draft(path, record.bytes) as draft:
            if not (wrong := fault(path, record)):
                return path  # another process has downloaded it meanwhile
            path.unlink(missing_ok=True)
            if forbidden:
                raise FetchError(
                    f"{path} {wrong}; it has been removed, and KERAS_DYNNETS_OFFLINE forbids "
                    f"downloading it again from {source}. {hint}"
                )
            try:
                _download(source, draft, record)
            except FetchError as error:
                raise FetchError(f"{error}. {hint}") from error
            if wrong := fault(draft, record):
                raise FetchError(f"the file from {source} {wrong}; it was not kept. {hint}")
            os.replace(draft, path)
    return path


def _download(source: str, draft: Path, record: WeightsRecord) -> None:
    with open(draft, "xb") as file, _bar(record) as advance:

        def start() -> Callable[[bytes], None]:
            file.seek(0)
            file.truncate()
            advance(None)
            return write

        def write(block: bytes) -> None:
            file.write(block)
            advance(len(block))

        receive(source, record.bytes, start)


def cached_index(address: str) -> tuple[list[WeightsRecord], str | None]:
    """Reads the index of a mirror and keeps a copy, which serves when the mirror does not answer.

    Args:
        address: address of the mirror.

    Returns:
        The records, and None; or, if the records are those of the copy, the reason for it.

    Raises:
        FetchError: the mirror does not answer and there is no copy.
        ValueError: the mirror's index is invalid.
    """
    source = f"{address}/index.json"
    path = cache_folder() / f"index-{hashlib.sha256(address.encode()).hexdigest()[:8]}.json"
    if offline() and not address.startswith("file://"):
        missed = "KERAS_DYNNETS_OFFLINE forbids downloading it"
    else:
        text = bytearray()

        def start() -> Callable[[bytes], None]:
            text.clear()
            return text.extend

        try:
            receive(source, INDEX_LIMIT, start)
        except FetchError as error:
            missed = str(error)
        else:
            listed = parse_index(bytes(text), source)
            # A cache that cannot be written is no reason to fail: the index has been read.
            with contextlib.suppress(OSError), _draft(path, INDEX_LIMIT) as draft:
                draft.write_bytes(text)
                os.replace(draft, path)
            return listed, None
    if not path.is_file():
        raise FetchError(
            f"no index of weights from {source}, and no copy of it in the cache ({missed})"
        )
    return parse_index(path.read_bytes(), path), missed


def cached_records() -> list[WeightsRecord]:
    """Lists the records whose file is in the cache, without the network.

    They come from the copies of mirrors' indexes that `cached_index` has kept, the newest first.
    A copy that this version of keras_dynnets cannot read is left out.
    """
    folder = cache_folder()
    copies = sorted(folder.glob("index-*.json"), key=lambda path: path.stat().st_mtime)
    found: dict[tuple[str, str], WeightsRecord] = {}
    for path in reversed(copies):
        with contextlib.suppress(ValueError, OSError):
            for record in parse_index(path.read_bytes(), path):
                if (folder / record.file).is_file():
                    found.setdefault((record.entry, record.tag), record)
    return list(found.values())


@contextlib.contextmanager
def _draft(path: Path, size: int) -> Iterator[Path]:
    """Gives a temporary path beside `path` to one process at a time, and removes it afterwards.

    All processes use the same temporary path, so the next one removes what a killed one has left.
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
def _writing(path: Path) -> Iterator[None]:
    """Adds to an error of the cache folder what to do about it."""
    try:
        yield
    except TimeoutError as error:
        raise FetchError(f"{path}: {error}; end that process, or wait for it") from error
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}; nothing was kept. Free some space, "
            "or set KERAS_DYNNETS_HOME to a folder that can be written",
        ) from error


@contextlib.contextmanager
def _bar(record: WeightsRecord) -> Iterator[Callable[[int | None], None]]:
    """Shows a progress bar for a large file on a terminal.

    It gives a function that takes the number of bytes received since the last call, or None when
    the download starts again.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    name, bar, speed = TextColumn(record.file), BarColumn(), TransferSpeedColumn()
    columns = (name, bar, DownloadColumn(), speed, TimeRemainingColumn())
    shown = console.is_terminal and record.bytes > BAR_FROM
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=record.bytes)

        def advance(count: int | None) -> None:
            progress.reset(task) if count is None else progress.advance(task, count)

        yield advance
