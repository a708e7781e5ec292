"""Checks a folder of images before a network is trained on it."""

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_dynnets.training.data.datasets import Data, load_data
from keras_dynnets.training.data.folders import BROKEN, OUTSIDE, listed
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.training.data.layout import is_photo_folder, relative

SPLITS = ("train", "validation", "test")
SIZE = 32  # images are decoded to this size, which is quicker and finds the same faults
THREADS = min(16, 4 + (os.cpu_count() or 1))
IMBALANCE = 5  # a class with so many times the images of another is worth a warning
SHOWN = 10  # lines for each kind of duplicate


@dataclass(frozen=True)
class FolderReport:
    """What a folder of images holds, and what is wrong with it.

    Attributes:
        folder: the folder.
        classes: names of the classes.
        images: number of images of each class, for each of "train", "validation" and "test".
        sources: where the images of each part come from.
        unreadable: what is wrong with each file that cannot be read, by its path.
        left_out: what was left out, with numbers and reasons; empty for nothing.
        shared: groups of equal files that are in more than one of the parts.
        contradicting: groups of equal files that are in more than one class.
        warnings: what may be wrong, one line each.
        seconds: the time that the check took.

    Paths are relative to the folder.
    """

    folder: str
    classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]
    sources: Mapping[str, str]
    unreadable: Mapping[str, str]
    left_out: str
    shared: tuple[tuple[str, ...], ...]
    contradicting: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def total(self) -> int:
        """The number of images, with those that cannot be read."""
        return sum(sum(counts.values()) for counts in self.images.values())

    @property
    def faults(self) -> str:
        """The files that cannot be read, one line each; empty if there are none."""
        return "\n".join(f"  {path}: {reason}" for path, reason in self.unreadable.items())

    def __str__(self) -> str:
        lines = [f"{self.folder}: {len(self.classes)} classes, {self.total} images"]
        width = max(len("class"), *map(len, self.classes))
        lines += [f"  {'class':{width}} " + "".join(f"{part:>11}" for part in SPLITS)]
        for name in self.classes:
            counts = (f"{self.images[part][name]:11}" for part in SPLITS)
            lines.append(f"  {name:{width}} " + "".join(counts))
        lines += [f"{part} images: {source}" for part, source in self.sources.items()]
        lines += [f"left out: {self.left_out}"] if self.left_out else []
        lines += [f"warning: {line}" for line in self.warnings]
        if self.unreadable:
            lines += [f"{len(self.unreadable)} of the files cannot be read:", self.faults]
        lines.append(f"every image was decoded, in {self.seconds:.1f} s")
        return "\n".join(lines)


def check_folder(folder: str | os.PathLike, validation: int = 2000, seed: int = 0) -> FolderReport:
    """Checks a folder of images as a training would read it.

    Args:
        folder: the folder, see `load_data`.
        validation: number of validation images to set aside, see `load_data`.
        seed: seed of the images that are set aside.

    Returns:
        The report. `print(report)` shows it in lines.

    Raises:
        ValueError: the folder holds no images in folders of classes, a class has no image, or the
            parts have different classes.

    Example:
        >>> report = check_folder("photos")
        >>> report.unreadable
        {'train/ants/0012.jpg': 'image file is truncated (12 bytes not processed)'}
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder; give a folder with train/CLASS/* or CLASS/*")
    if not is_photo_folder(place):
        raise ValueError(
            f"{place} holds no images in folders of classes; make a folder for each class, "
            "train/CLASS or CLASS, and put its images there"
        )
    return check_data(load_data("images", place, validation, seed))


def check_data(data: Data) -> FolderReport:
    """Checks the images of a data set from a folder: decodes all, and looks for equal files.

    Args:
        data: the data set.

    Returns:
        The report.

    Raises:
        ValueError: the data set is not from a folder of images.
    """
    found = data.folder
    if found is None:
        raise ValueError(f"{data.name} is no folder of images, whose files could be checked")
    started = time.perf_counter()
    files = [
        (part, data.classes[label], path)
        for part in SPLITS
        for path, label in zip(_paths(data, part), getattr(data, part).labels, strict=True)
    ]
    names = [relative(path, found.root) for _, _, path in files]
    with ThreadPoolExecutor(THREADS) as pool:
        reasons = list(pool.map(_fault, [path for _, _, path in files]))
        equal = _equal([path for _, _, path in files], pool)
    shared = [group for group in equal if len({files[i][0] for i in group}) > 1]
    contradicting = [group for group in equal if len({files[i][1] for i in group}) > 1]
    counted = Counter((part, name) for part, name, _ in files)
    images = {part: {name: counted[part, name] for name in data.classes} for part in SPLITS}
    own = ["train", *(part for part in SPLITS[1:] if part not in found.places)]  # of one folder
    before = {name: sum(images[part][name] for part in own) for name in data.classes}
    warnings = [
        *(_imbalance(before) if len(data.train) else ()),
        *_missing(images),
        *_same("in more than one of training, validation and test", shared, names),
        *_same("in more than one class", contradicting, names),
    ]
    return FolderReport(
        folder=str(found.root),
        classes=data.classes,
        images=images,
        sources=sources(data),
        unreadable=dict(sorted((n, r) for n, r in zip(names, reasons, strict=True) if r)),
        left_out=left_out(data),
        shared=tuple(tuple(names[i] for i in group) for group in shared),
        contradicting=tuple(tuple(names[i] for i in group) for group in contradicting),
        warnings=tuple(warnings),
        seconds=round(time.perf_counter() - started, 2),
    )


def readable_test_images(data: Data, skip_bad: bool) -> Data:
    """Decodes all test images, before a network is evaluated on them.

    Args:
        data: a data set from a folder of images.
        skip_bad: whether to leave out files that cannot be read.

    Returns:
        The data set, without test images that cannot be read.

    Raises:
        ValueError: files cannot be read, or no other is left. The message has a line for each.
    """
    assert data.folder is not None
    paths = [*_paths(data, "test")]
    with ThreadPoolExecutor(THREADS) as pool:
        reasons = list(pool.map(_fault, paths))
    bad = [i for i, reason in enumerate(reasons) if reason]
    if not bad:
        return data
    if not skip_bad or len(bad) == len(paths):
        root = data.folder.root
        faults = "\n".join(f"  {relative(paths[i], root)}: {reasons[i]}" for i in bad)
        raise ValueError(
            f"{len(bad)} of the {len(paths)} test images in {root} cannot be read; replace or "
            f"remove these files, or go on without them by --skip-bad:\n{faults}"
        )
    return replace(data, test=data.test.take(np.delete(np.arange(len(paths)), bad)))


def _paths(data: Data, part: str) -> Iterable[Path]:
    images = getattr(data, part).images
    return images.paths if isinstance(images, ImageFiles) else ()


def _fault(path: Path) -> str:
    """Says why a file cannot be read as an image; empty if it can."""
    try:
        ImageFiles([path], SIZE)[0]
    except Exception as error:  # a damaged file can raise anything
        reason = error.__cause__ or error
        return " ".join((str(reason) or type(reason).__name__).split())
    return ""


def _equal(paths: list[Path], pool: ThreadPoolExecutor) -> list[list[int]]:
    """Gives the positions of files with the same content; only files of one size are read."""
    sizes = np.array([os.stat(path).st_size for path in paths], int)
    counts = Counter(sizes.tolist())
    rows = [i for i, size in enumerate(sizes.tolist()) if counts[size] > 1]
    groups: dict[str, list[int]] = defaultdict(list)
    for i, digest in zip(rows, pool.map(_digest, [paths[i] for i in rows]), strict=True):
        groups[digest].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _imbalance(counts: Mapping[str, int]) -> list[str]:
    """Warns of classes with very different numbers of images, before any are held out."""
    large, small = max(counts, key=lambda n: counts[n]), min(counts, key=lambda n: counts[n])
    if (most := counts[large]) < IMBALANCE * counts[small]:
        return []
    return [
        f"there are {most} images of {large} and {counts[small]} of {small}; add images of {small},"
        " or let them count more: class_weights: balanced in the recipe (--class-weights balanced)"
    ]


def _missing(images: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warns of classes without an image for validation or for the test."""
    lines = []
    for part in ("validation", "test"):
        none = [name for name, count in images[part].items() if not count]
        if none and any(images["train"].values()) or 0 < len(none) < len(images[part]):
            lines.append(f"no {part} image of {_some(none)}")
    return lines


def _same(where: str, groups: list[list[int]], names: list[str]) -> list[str]:
    """Gives a line for each group of equal files."""
    start = f"the same picture is {where}:"
    lines = [f"{start} {' = '.join(names[i] for i in group)}" for group in groups[:SHOWN]]
    return lines + ([f"{start} {len(groups) - SHOWN} more"] if len(groups) > SHOWN else [])


def sources(data: Data) -> dict[str, str]:
    """Says where the images of each part come from.

    Args:
        data: a data set from a folder of images.
    """
    found = data.folder
    assert found is not None
    place = {part: relative(path, found.root) for part, path in found.places.items()}
    found_in = {}
    for part in SPLITS:
        if part in place:
            found_in[part] = (
                "the folders of the classes" if place[part] == "." else f"{place[part]}/"
            )
        elif "train" in place:
            found_in[part] = f"drawn from the train images, {found.split_rule}"
    return found_in


def left_out(data: Data) -> str:
    """Says in one line which files and folders were not read; empty for none.

    Args:
        data: a data set from a folder of images.
    """
    found = data.folder
    assert found is not None
    kinds = dict(found.left_out)
    outside, broken = kinds.pop(OUTSIDE, 0), kinds.pop(BROKEN, 0)
    number, skipped = sum(kinds.values()), len(found.skipped)
    parts = [f"{_number(number, 'file')} of another kind ({listed(kinds)})"] if kinds else []
    parts += [f"{_number(outside, 'image')} {OUTSIDE}"] if outside else []
    parts += [_number(broken, BROKEN)] if broken else []
    parts += [f"folders beside the others: {_some(found.beside)}"] if found.beside else []
    parts += [f"{_number(skipped, 'file')} that could not be read"] if skipped else []
    return "; ".join(parts)


def _number(number: int, name: str) -> str:
    return f"{number} {name}" + ("" if number == 1 else "s")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
