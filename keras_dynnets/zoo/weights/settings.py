"""Settings for downloads, from environment variables and from the program itself."""

import math
import os
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a single byte
SCHEMES = ("http", "https", "file")

_chosen: dict[str, str | None] = {"mirror": None}


def set_mirror(address: str | os.PathLike | None) -> None:
    """Chooses a mirror: the place that this program reads published weights from.

    The mirror also provides the index, which holds the checksums that every file is compared
    with. Choose only a mirror that you trust.

    Args:
        address: the web address of a copy of the repository's folder `zoo/`, as a static web
            server provides it; or a `file://` address or a path of such a folder. None returns
            to the environment variable `KERAS_DYNNETS_MIRROR` or, if that is not set, to the
            weights that come with keras_dynnets.

    Raises:
        ValueError: the address is none of these.

    Example:
        >>> zoo.set_mirror("https://example.org/zoo")
        >>> model = zoo.load("dmnn20", weights="cifar10")
    """
    _chosen["mirror"] = None if address is None else _address(address, "the mirror")


def mirror() -> str | None:
    """Returns the address of the chosen mirror, without a final slash; None if there is none.

    Raises:
        ValueError: `KERAS_DYNNETS_MIRROR` is neither an address nor a folder.
    """
    if _chosen["mirror"]:
        return _chosen["mirror"]
    named = os.environ.get("KERAS_DYNNETS_MIRROR")
    return _address(named, "KERAS_DYNNETS_MIRROR") if named else None


def _address(given: str | os.PathLike, name: str) -> str:
    """Returns an address for what the user gave; `name` says in the error where it was given."""
    text = os.fspath(given)
    scheme, separator, rest = text.partition("://")
    if not separator and text.strip():
        return Path(text).expanduser().absolute().as_uri()
    no_host = scheme != "file" and not urlsplit(text).netloc
    if scheme not in SCHEMES or not rest.strip("/") or no_host:
        raise ValueError(
            f"{name} must be a web address (http://, https://), a file:// address or a folder, "
            f"not {given!r}"
        )
    return text.rstrip("/")


def cache_folder() -> Path:
    """Returns the folder that keeps downloaded weights.

    It is `KERAS_DYNNETS_HOME` if that is set, else the usual cache folder of the platform.
    """
    if home := os.environ.get("KERAS_DYNNETS_HOME"):
        return Path(home).expanduser()
    import pooch

    return Path(pooch.os_cache("keras_dynnets"))


def offline() -> bool:
    """Returns True if `KERAS_DYNNETS_OFFLINE` forbids the use of the network.

    Raises:
        ValueError: the variable is neither 0 nor 1.
    """
    value = os.environ.get("KERAS_DYNNETS_OFFLINE", "")
    if value not in ("", "0", "1"):
        raise ValueError(
            f"KERAS_DYNNETS_OFFLINE must be 1 (never use the network) or 0, not {value!r}"
        )
    return value == "1"


def timeouts() -> tuple[float, float]:
    """Returns how long to wait for a connection and for each read, both in seconds.

    `KERAS_DYNNETS_TIMEOUT` sets both.

    Raises:
        ValueError: the variable is not a number of seconds above 0.
    """
    value = os.environ.get("KERAS_DYNNETS_TIMEOUT")
    if not value:
        return CONNECT_TIMEOUT, READ_TIMEOUT
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"KERAS_DYNNETS_TIMEOUT must be a number of seconds above 0, not {value!r}"
        )
    return seconds, seconds
