"""Lists the image files of a folder that has a folder for each class."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, features

# What file managers, notebooks and archives leave in folders, in lower case.
IGNORED = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found"}
IGNORED |= {"system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"}
# Formats that Pillow recognises: without pixels, or with those of another program's making.
NO_PIXELS = {"MPEG", "EPS"}
CODECS = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}  # which a Pillow may lack
OUTSIDE = "outside a class folder"
BROKEN = "broken link"


@dataclass(frozen=True, eq=False)
class Listing:
    """The image files of a folder that has a folder for each class.

    Attributes:
        classes: names of the classes in alphabetical order.
        paths: paths of the files.
        labels: class of each file, int32 (n,).
        left_out: number of files that are no images that can be read here, by their suffix, by
            `OUTSIDE` or by `BROKEN`.
    """

    classes: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    left_out: Mapping[str, int] = field(default_factory=dict)


@cache
def image_suffixes() -> frozenset[str]:
    """Gives the suffixes, in lower case, of the files that the installed Pillow can read."""
    Image.init()
    formats = {
        name
        for name, (kind, _) in Image.OPEN.items()
        if not (isinstance(kind, type) and issubclass(kind, ImageFile.StubImageFile))
        and (name not in CODECS or features.check(CODECS[name]))
    } - NO_PIXELS
    if "JPEG" in formats:
        formats.add("MPO")  # several JPEGs in one file, which the format JPEG opens
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats)


def subfolders(folder: Path) -> list[Path]:
    """Lists the folders in a folder, and links to folders, without hidden and ignored ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _ignored(path.name))


def class_folders(folder: str | os.PathLike, skip: Collection[Path] = ()) -> Listing:
    """Lists the image files of a folder that has a folder for each class.

    Images may lie at any depth inside the folder of their class, also behind links. Ignored are
    hidden files and folders, and what file managers and archives leave behind.

    Args:
        folder: the folder.
        skip: files that are left out as if they did not exist.

    Returns:
        The classes, the files and what was left out.

    Raises:
        ValueError: there are no classes, or a class has no image.
        OSError: a folder cannot be read.
    """
    folder = Path(folder)
    places = subfolders(folder)
    if not places:
        raise ValueError(
            f"{folder} holds no folders; make a folder in it for each class, with the images of "
            "that class"
        )
    left_out = Counter(_kind(path) for path in folder.iterdir() if _counts(path))
    if images := sum(left_out.pop(end, 0) for end in image_suffixes()):
        left_out[OUTSIDE] = images
    paths, labels, empty = [], [], []
    for label, place in enumerate(places):
        files = [path for path in _files(place) if path not in skip]
        kinds = [_kind(path) for path in files]
        found = sorted(
            path for path, kind in zip(files, kinds, strict=True) if kind in image_suffixes()
        )
        others = Counter(kind for kind in kinds if kind not in image_suffixes())
        if not found:
            empty.append(f"{place}" + (f" (it holds {listed(others)})" if others else ""))
        left_out += others
        paths += found
        labels += [label] * len(found)
    if empty:
        more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
        verb = "holds no image" if len(empty) == 1 else "hold no image"
        raise ValueError(
            f"{', '.join(empty[:10])}{more} {verb} that can be read here; put the images of the "
            "class into its folder, or remove the folder"
        )
    names = tuple(place.name for place in places)
    return Listing(names, paths, np.array(labels, "int32"), dict(left_out))


def any_image(folder: Path) -> bool:
    """Says whether there is an image file at any depth in a folder."""
    return any(_kind(path) in image_suffixes() for path in _files(folder))


def listed(left_out: Mapping[str, int]) -> str:
    """Gives the numbers of files that were left out as text, such as ".txt 2, .heic 1"."""
    kinds = sorted(left_out, key=lambda kind: (-left_out[kind], kind))
    return ", ".join(f"{kind} {left_out[kind]}" for kind in kinds)


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED


def _counts(path: Path) -> bool:
    return not _ignored(path.name) and not path.is_dir()


def _kind(path: Path) -> str:
    """Gives the suffix of a file in lower case, or says why it can be no image."""
    if not path.is_file():
        return BROKEN if path.is_symlink() else "no regular file"
    return path.suffix.lower() or "without a suffix"


def _files(folder: Path) -> Iterator[Path]:
    """Gives the files in a folder at any depth, following each link to a folder once."""
    # Links to folders that were seen, or that hold this one, would lead round in a circle.
    seen = {os.path.realpath(folder)}
    for above in (Path(os.path.realpath(folder)), Path(os.path.realpath(folder.parent)) / "_"):
        seen |= {str(parent) for parent in above.parents}

    def new(place: str) -> bool:
        real = os.path.realpath(place)
        if real in seen:
            return False
        seen.add(real)
        return True

    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        names = sorted(name for name in folders if not _ignored(name))
        folders[:] = [name for name in names if new(os.path.join(place, name))]
        yield from (Path(place, name) for name in files if not _ignored(name))


def _refuse(error: OSError) -> None:
    raise error
