"""Bytes from a web server or a folder, with time limits on all of it and second tries where they can help."""

import contextlib
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from keras_dynnets.zoo.settings import timeouts

TRIES = 4
BACKOFF = 1.0  # seconds before the second try, twice as many before each further one
SLOWEST = 10_000  # bytes a second; a server that sends its bytes more slowly than that is given up
BLOCK = 1 << 18  # bytes
BUSY = (408, 425, 429)  # statuses that, like 500 and above, may be another one a moment later


class FetchError(RuntimeError):
    """What was asked for could not be had, or is not what it should be."""


class _TryAgain(Exception):
    """A failure that may be none a moment later."""


def longest(size):
    """Seconds that `receive` takes at most for `size` bytes, all tries and pauses included; redirects are not."""
    connect, read = timeouts()
    # A try: to connect, to be answered, then what `_http_blocks` allows, and the one read that is under way by then.
    return TRIES * (connect + read + _allowed(size) + read) + BACKOFF * (2 ** (TRIES - 1) - 1)


def _allowed(size):
    return timeouts()[1] + size / SLOWEST


def receive(source, size, start):
    """Reads what an address holds, anew after each failure that may pass.

    A connection that breaks, stays silent or ends early, and a server that is busy or fails are such failures.

    Args:
        source: "http://...", "https://..." or "file://...".
        size: bytes that it has at most. The first byte beyond ends the reading, after that block.
        start: called before each try; gives a function to hand the blocks of bytes to. What that raises is not caught.

    Raises:
        FetchError: it cannot be had; the message names it and says why.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        received, write = 0, start()
        try:
            # A failure to write must not pass for one to read, so the blocks come out of a generator.
            with contextlib.closing(_blocks(source, size)) as blocks:
                for block in blocks:
                    write(block)
                    received += len(block)
                    if received > size:
                        return
            return
        except _TryAgain as error:
            failure = error
    raise FetchError(f"{source}: {failure}; given up after {TRIES} tries") from failure


def _blocks(source, size):
    if urlsplit(source).scheme == "file":
        yield from _file_blocks(source)
    else:
        yield from _http_blocks(source, _allowed(size))


def _file_blocks(source):
    try:
        with open(Path(url2pathname(urlsplit(source).path)), "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise FetchError(f"{source}: {error.strerror or error}") from error


def _http_blocks(source, seconds):
    import requests
    import urllib3

    arguments = {"stream": True, "timeout": timeouts(), "headers": {"Accept-Encoding": "identity"}}
    passing = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)
    try:
        with requests.get(source, **arguments) as response:
            status = f"the server answers {response.status_code} {response.reason}"
            if response.status_code in BUSY or response.status_code >= 500:
                raise _TryAgain(status)
            if response.status_code != 200:
                raise FetchError(f"{source}: {status}")
            deadline = time.monotonic() + seconds
            # Not iter_content, which waits for a whole block: each read is to end with the bytes that are there.
            while block := response.raw.read1(BLOCK, decode_content=True):
                yield block
                if time.monotonic() > deadline:
                    raise _TryAgain(f"less than {SLOWEST:,} bytes a second arrive")
    except passing as error:
        raise _TryAgain(_reason(error)) from error
    except requests.RequestException as error:
        raise FetchError(f"{source}: {str(error).rstrip('.')}") from error


def _reason(error):
    """What broke a connection, in a word or two; the library's own text has addresses of objects in it."""
    import requests
    import urllib3

    if isinstance(error, requests.ConnectTimeout):
        return "no connection within the time-out"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.ReadTimeoutError)):
        return "the server stays silent for longer than the time-out"
    if isinstance(error, requests.ConnectionError):
        return f"no connection ({_innermost(error)})"
    return f"the connection broke before the end ({_innermost(error)})"


def _innermost(error):
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return getattr(error, "strerror", None) or error
