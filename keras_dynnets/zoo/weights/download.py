"""Reads files from a web server or a folder, with time limits and repeated attempts."""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from keras_dynnets.zoo.weights.settings import timeouts

TRIES = 4
BACKOFF = 1.0  # seconds before the second attempt; the pause doubles before each further attempt
SLOWEST = 10_000  # bytes per second; an attempt ends when a server sends more slowly
BLOCK = 1 << 18  # bytes
BUSY = (408, 425, 429)  # HTTP statuses that, like 500 and above, may change a moment later


class FetchError(RuntimeError):
    """A file that could not be downloaded, or that is not the published one."""


class _TryAgain(Exception):
    """A failure that may not happen again at the next attempt."""


def longest(size: int) -> float:
    """Returns the longest time that `receive` takes, in seconds.

    All attempts and pauses are included; redirects and the lookup of the host name are not.

    Args:
        size: size of the file in bytes.
    """
    connect, read = timeouts()
    # One attempt: connecting, the first answer, the time that `_http_blocks` allows, and the one
    # read that is still in progress when that time is over.
    attempt = connect + read + _allowed(size) + read
    return TRIES * attempt + BACKOFF * (2 ** (TRIES - 1) - 1)


def _allowed(size: int) -> float:
    """Returns the seconds that the body of a response may take."""
    return timeouts()[1] + size / SLOWEST


def receive(source: str, size: int, start: Callable[[], Callable[[bytes], object]]) -> None:
    """Reads a file, and starts again after a failure that may pass.

    Such failures are a connection that breaks, stays silent or ends early, and a server that is
    busy or reports an internal error.

    Args:
        source: address of the file: "http://...", "https://..." or "file://...".
        size: largest size in bytes. Reading stops after the block with the first byte beyond it.
        start: called before each attempt. It returns the function that takes the blocks of bytes;
            exceptions of that function are not caught.

    Raises:
        FetchError: the file could not be read. The message names it and gives the reason.
    """
    failure: Exception | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        received, write = 0, start()
        try:
            # The blocks come from a generator, so that an error of `write` is not caught there.
            with contextlib.closing(_blocks(source, size)) as blocks:
                for block in blocks:
                    write(block)
                    received += len(block)
                    if received > size:
                        return
            return
        except _TryAgain as error:
            failure = error
    raise FetchError(f"{source}: {failure}; gave up after {TRIES} attempts") from failure


def _blocks(source: str, size: int) -> Generator[bytes, None, None]:
    if urlsplit(source).scheme == "file":
        yield from _file_blocks(source)
    else:
        yield from _http_blocks(source, _allowed(size))


def _file_blocks(source: str) -> Generator[bytes, None, None]:
    try:
        with open(Path(url2pathname(urlsplit(source).path)), "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise FetchError(f"{source}: {error.strerror or error}") from error


def _http_blocks(source: str, seconds: float) -> Generator[bytes, None, None]:
    import requests
    import urllib3

    passing = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)
    plain = {"Accept-Encoding": "identity"}
    try:
        with requests.get(source, stream=True, timeout=timeouts(), headers=plain) as response:
            status = f"the server answers {response.status_code} {response.reason}"
            if response.status_code in BUSY or response.status_code >= 500:
                raise _TryAgain(status)
            if response.status_code != 200:
                raise FetchError(f"{source}: {status}")
            deadline = time.monotonic() + seconds
            # `iter_content` waits until a whole block is there; `read1` returns what has arrived.
            while block := response.raw.read1(BLOCK, decode_content=True):
                yield block
                if time.monotonic() > deadline:
                    raise _TryAgain(f"fewer than {SLOWEST:,} bytes per second arrive")
    except passing as error:
        raise _TryAgain(_reason(error)) from error
    except requests.RequestException as error:
        raise FetchError(f"{source}: {str(error).rstrip('.')}") from error


def _reason(error: BaseException) -> str:
    """Says what broke a connection; the library's own text contains addresses of objects."""
    import requests
    import urllib3

    if isinstance(error, requests.ConnectTimeout):
        return "no connection within the time-out"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.ReadTimeoutError)):
        return "the server stays silent for longer than the time-out"
    if isinstance(error, requests.ConnectionError):
        return f"no connection ({_innermost(error)})"
    return f"the connection broke before the end ({_innermost(error)})"


def _innermost(error: BaseException) -> object:
    """Returns the first cause of an error, or the operating system's text for it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return getattr(error, "strerror", None) or error
