"""Where weights come from and where they are kept: the environment's word on it, and the program's."""

import math
import os
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without one byte
SCHEMES = ("http", "https", "file")

_chosen = {"mirror": None}


def set_mirror(address):
    """Reads published weights from a copy of the shelf, for the rest of the program.

    The index, with the hashes that files are held against, comes from there too: name one that you trust.

    Args:
        address: of what a static web server makes of the folder `zoo/`, "https://example.org/zoo"; a `file://`
            address or a path of such a folder; None for what KERAS_DYNNETS_MIRROR says, or else the checkout's own.

    Raises:
        ValueError: an address of another kind.
    """
    _chosen["mirror"] = None if address is None else _address(address, "the mirror")


def mirror():
    """The address to read weights from, without a slash at its end; None where none was set."""
    if _chosen["mirror"]:
        return _chosen["mirror"]
    named = os.environ.get("KERAS_DYNNETS_MIRROR")
    return _address(named, "KERAS_DYNNETS_MIRROR") if named else None


def _address(given, name):
    text = os.fspath(given)
    scheme, separator, rest = text.partition("://")
    if not separator and text.strip():
        return Path(text).expanduser().absolute().as_uri()
    if scheme not in SCHEMES or not rest.strip("/") or (scheme != "file" and not urlsplit(text).netloc):
        raise ValueError(f"{name} is a web address (http://, https://), a file:// address or a folder, not {given!r}")
    return text.rstrip("/")


def cache_folder():
    """Where downloaded weights are kept: KERAS_DYNNETS_HOME, or the platform's folder for what can be had again."""
    if home := os.environ.get("KERAS_DYNNETS_HOME"):
        return Path(home).expanduser()
    import pooch

    return Path(pooch.os_cache("keras_dynnets"))


def offline():
    """Whether KERAS_DYNNETS_OFFLINE forbids the network."""
    value = os.environ.get("KERAS_DYNNETS_OFFLINE", "")
    if value not in ("", "0", "1"):
        raise ValueError(f"KERAS_DYNNETS_OFFLINE is 1 (never touch the network) or 0, not {value!r}")
    return value == "1"


def timeouts():
    """Seconds to wait for a connection, and for each read of it; KERAS_DYNNETS_TIMEOUT sets both."""
    value = os.environ.get("KERAS_DYNNETS_TIMEOUT")
    if not value:
        return CONNECT_TIMEOUT, READ_TIMEOUT
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"KERAS_DYNNETS_TIMEOUT is a number of seconds above 0, not {value!r}")
    return seconds, seconds
