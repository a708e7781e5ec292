"""A folder of images: which of its folders hold the images for training, validation and test."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from keras_dynnets.training.data.folders import Listing, any_image, class_folders, subfolders
from keras_dynnets.zoo.run_folders import SplitRule

# The names of the folders, in any case of letters.
NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, eq=False)
class PhotoFolder:
    """The images that a folder holds.

    Attributes:
        root: the folder.
        classes: names of the classes, in the order of the labels.
        parts: the files for each of "train", "validation" and "test" that the folder has.
        places: the folder of each part; `root` itself if it holds the folders of the classes.
        left_out: number of files in these folders that are no images, by the reason.
        beside: folders in `root` that are not used.
        skipped: files that were left out on purpose, relative to `root`.
        split_rule: how the parts that are missing are drawn from "train".
    """

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, Listing]
    places: Mapping[str, Path]
    left_out: Mapping[str, int] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    split_rule: SplitRule = "by class"


def is_photo_folder(folder: Path, parts_only: bool = False) -> bool:
    """Says whether a folder holds images in folders of classes.

    Args:
        folder: the folder. One with prepared data sets of TensorFlow Datasets is none.
        parts_only: whether it must have a folder such as `train`, so that the images of classes
            directly in it do not count.
    """
    if not folder.is_dir():
        return False
    if _named(folder) or parts_only:
        return bool(_named(folder))
    prepared = (*folder.glob("*/*/dataset_info.json"), *folder.glob("*/*/*/dataset_info.json"))
    return not prepared and any(any_image(place) for place in subfolders(folder))


def read_photo_folder(
    root: Path,
    skip: Collection[str] = (),
    split_rule: SplitRule = "by class",
    classes: Sequence[str] | None = None,
    flat: Literal["train", "test"] = "train",
) -> PhotoFolder:
    """Lists the images of a folder with `train/CLASS/*`, or with `CLASS/*`.

    Images for validation lie in `val/`, `valid/` or `validation/`, for the test in `test/`. Where
    there is no test folder, the validation images are the test images.

    Args:
        root: the folder.
        skip: files to leave out, relative to `root`.
        split_rule: "by class"; or "at random" for a run of an earlier version, which knew no
            `valid/`, and no validation folder beside a test folder.
        classes: names of the classes, for a folder that has test images alone and may lack some.
        flat: what the images of a folder with `CLASS/*` are for.

    Returns:
        The images.

    Raises:
        ValueError: two folders are for the same part, a class has no image, the parts have
            different classes, or there is only one class.
    """
    places, beside = _places(root, split_rule, flat)
    left = frozenset(root / name for name in skip)
    parts = {part: class_folders(place, left) for part, place in places.items()}
    names = _same_classes(places, parts)
    if len(names) == 1 and "train" in parts:
        raise ValueError(
            f"{places['train']} holds the folder of one class, {names[0]}, and telling classes "
            "apart takes two or more; add folders, or give the folder that holds those of the "
            "classes"
        )
    if "train" not in parts and classes is not None and set(names) <= set(classes):
        parts = {part: _relabelled(listing, classes) for part, listing in parts.items()}
        names = tuple(classes)
    left_out = sum((Counter(listing.left_out) for listing in parts.values()), Counter())
    return PhotoFolder(
        root, names, parts, places, dict(left_out), beside, tuple(sorted(skip)), split_rule
    )


def _named(root: Path) -> dict[str, Path]:
    """Finds the folders by their names; none if these are names of classes."""
    folders = subfolders(root)
    found = {
        part: [path for path in folders if path.name.lower() in names]
        for part, names in NAMES.items()
    }
    named = [path for paths in found.values() for path in paths]
    others = [path for path in folders if path not in named]
    if others and not any(subfolders(path) for path in named):
        return {}  # such as photos of a train, a car and a ship
    for part, paths in found.items():
        if len(paths) > 1:
            both = " and ".join(str(path) for path in paths)
            raise ValueError(
                f"{both} would all be the {part} images; keep one of these folders, or put the "
                "images of all into one"
            )
    return {part: paths[0] for part, paths in found.items() if paths}


def _places(
    root: Path, split_rule: SplitRule, flat: str
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Gives the folder of each part, and the names of other folders beside them."""
    named = _named(root)
    if not named:
        for folder in subfolders(root):
            if "train" in (inner := _named(folder)) and subfolders(inner["train"]):
                raise ValueError(
                    f"{root} holds no folders of classes, but {folder} holds {inner['train'].name}/"
                    f"; give {folder}"
                )
        return {flat: root}, ()
    beside = tuple(p.name for p in subfolders(root) if p not in named.values() and any_image(p))
    unknown = "test" in named or named.get("validation", root).name == "valid"
    if split_rule == "at random" and unknown:  # to earlier versions
        named.pop("validation", None)
    if "validation" in named and "test" not in named:
        named["test"] = named.pop("validation")
    return named, beside


def _same_classes(places: Mapping[str, Path], parts: Mapping[str, Listing]) -> tuple[str, ...]:
    """Gives the classes of all parts, or refuses parts with different ones."""
    every = sorted({name for listing in parts.values() for name in listing.classes})
    lacks = {
        places[part]: [name for name in every if name not in listing.classes]
        for part, listing in parts.items()
    }
    if any(lacks.values()):
        each = "; ".join(f"{place} lacks {_some(names)}" for place, names in lacks.items() if names)
        raise ValueError(
            f"{' and '.join(map(str, places.values()))} must hold the same folders, one for each "
            f"class: {each}"
        )
    return tuple(every)


def _relabelled(listing: Listing, classes: Sequence[str]) -> Listing:
    """Gives the files with the numbers that their classes have among others."""
    numbers = np.array([list(classes).index(name) for name in listing.classes], "int32")
    return Listing(tuple(classes), listing.paths, numbers[listing.labels], listing.left_out)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def relative(path: str | os.PathLike, root: str | os.PathLike) -> str:
    """Gives the path of a file from the folder of images, with "/" between its parts."""
    return os.path.relpath(path, root).replace(os.sep, "/")
