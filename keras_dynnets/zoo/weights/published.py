"""Published weights: their records, and the verified file of each.

Without a mirror the records are those of the published folder: the checkout's `zoo/`, or the copy
of it that an installed package carries. Files that were downloaded from a mirror before count too.
"""

import functools
import logging
from pathlib import Path

from keras_dynnets.zoo.weights import settings
from keras_dynnets.zoo.weights.cache import cached_file, cached_index, cached_records, fault
from keras_dynnets.zoo.weights.download import FetchError
from keras_dynnets.zoo.weights.records import WeightsRecord, read_index

log = logging.getLogger("keras_dynnets")

CHECKOUT = Path(__file__).parents[3] / "zoo"
PACKAGED = Path(__file__).parents[2] / "published"
PUBLISHED = CHECKOUT if (CHECKOUT / "index.json").is_file() else PACKAGED

SET_A_MIRROR = (
    "set KERAS_DYNNETS_MIRROR (or call zoo.set_mirror) to the address or the path of a copy of the "
    "repository's folder zoo/"
)


def published_folder() -> Path | None:
    """Returns the folder of published weights that came with keras_dynnets; None without one.

    It is the folder `zoo/` of a checkout, or the folder `published` inside an installed package.
    """
    return PUBLISHED if (PUBLISHED / "index.json").is_file() else None


def records(entry: str | None = None) -> list[WeightsRecord]:
    """Lists the published weights.

    If a mirror is set, these are the records of its index. Otherwise they are those of the
    published folder and then those whose file is in the cache; an empty list if there are none.

    Args:
        entry: name of a model, to list only its weights. The first record is its default.

    Raises:
        FetchError: the index of the mirror could not be read.
        ValueError: the index is invalid or has a later version.
    """
    if address := settings.mirror():
        listed = _mirrored(address, settings.offline())
    else:
        listed = _folder_records()
        names = {(r.entry, r.tag) for r in listed}
        listed = listed + [r for r in cached_records() if (r.entry, r.tag) not in names]
    return [r for r in listed if entry in (None, r.entry)]


def _folder_records() -> list[WeightsRecord]:
    folder = published_folder()
    return read_index(folder) if folder else []


@functools.lru_cache(maxsize=8)
def _mirrored(address: str, offline: bool) -> list[WeightsRecord]:
    """Returns the records of a mirror, which is asked once per program and value of `offline`."""
    listed, missed = cached_index(address)
    if missed and not offline:
        log.warning("the index of weights is a copy from an earlier download: %s", missed)
    return listed


def file_places(record: WeightsRecord) -> list[Path]:
    """Lists where the file of a record belongs, or already is, when no mirror is set.

    Args:
        record: a record of the published folder or of a file in the cache.

    Returns:
        The path in the published folder if its index lists the record, and the path in the cache
        if the file is there or the published folder does not list the record.
    """
    cached = settings.cache_folder() / record.file
    if record not in _folder_records():
        return [cached]
    return [PUBLISHED / record.entry / record.file] + [cached] * cached.exists()


def verified_file(record: WeightsRecord) -> Path:
    """Returns the file of a record, once its size and checksum have been checked.

    A right file in the cache is used without asking a mirror.

    Args:
        record: one of `records()`.

    Raises:
        FetchError: the file is missing or damaged, and no right one could be downloaded.
        OSError: the cache folder cannot be written.
    """
    if address := settings.mirror():
        return cached_file(record, f"{address}/{record.entry}/{record.file}")
    places = file_places(record)
    faults = [fault(path, record) for path in places]
    if None in faults:
        return places[faults.index(None)]
    first, cached = places[0], settings.cache_folder() / record.file
    if first == cached:
        raise FetchError(f"{cached} {faults[0]}; to download it again, {SET_A_MIRROR}")
    raise FetchError(
        f"{first} {faults[0]}; {PUBLISHED.name}/index.json lists it: restore it (in a checkout "
        f"with git checkout, in an installed package by installing it again), put the right file "
        f"at {cached}, or {SET_A_MIRROR}"
    )


def where_weights_come_from() -> str:
    """Says for an error message where this program looks for published weights."""
    if address := settings.mirror():
        return f"published weights come from the mirror {address}"
    if folder := published_folder():
        return f"published weights come from {folder}; for those of a mirror, {SET_A_MIRROR}"
    return f"keras_dynnets came without published weights: to get some, {SET_A_MIRROR}"
