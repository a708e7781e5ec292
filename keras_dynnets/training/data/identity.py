"""What identifies the images of a data set, so that a change of them is noticed."""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from keras_dynnets.training.data.datasets import Data, Split
from keras_dynnets.training.data.image_files import ImageFiles
from keras_dynnets.zoo.run_folders import DataRecord

SPLITS = ("train", "validation", "test")


def data_record(data: Data, folder: str | os.PathLike | None = None) -> DataRecord:
    """Records which images a data set has.

    The relative path, the size in bytes and the label of each file count, or the content and the
    label of each image in memory. The order of the images does not count.

    Args:
        data: the data set.
        folder: the folder that it was loaded from; None for the default one.

    Returns:
        The record.

    Raises:
        OSError: a file is not there any more.
    """
    bucket = "://" in str(folder)  # which holds no image files, but data sets of TFDS
    root = None if folder is None or bucket else Path(folder).expanduser().absolute()
    lines = {name: sorted(_lines(data, name, root)) for name in SPLITS}
    groups: dict[str, list[str]] = {}
    for group, text in (line for name in SPLITS for line in lines[name]):
        groups.setdefault(group, []).append(text)
    return DataRecord(
        name=data.name,
        folder=str(folder) if bucket else None if root is None else str(root),
        sha256=_digest([*data.classes, *(t for g in sorted(groups) for t in sorted(groups[g]))]),
        images={
            group: (len(found), _digest(sorted(found))[:12]) for group, found in groups.items()
        },
        splits={name: (len(lines[name]), _digest(t for _, t in lines[name])) for name in SPLITS},
        drawn=data.folder is not None and "test" not in data.folder.parts,
        split_rule=data.folder.split_rule if data.folder else "at random",
        skipped=data.folder.skipped if data.folder else (),
    )


def _lines(data: Data, name: str, root: Path | None) -> Iterator[tuple[str, str]]:
    """Gives the group and the identity of each image of a split."""
    split: Split = getattr(data, name)
    if isinstance(split.images, ImageFiles):
        for path, label in zip(split.images.paths, split.labels, strict=True):
            relative = os.path.relpath(path, root or Path())
            place = relative.replace(os.sep, "/")
            flat = data.folder is not None and data.folder.root in data.folder.places.values()
            group = "/".join(place.split("/")[: 1 if flat else 2])
            yield group, f"{place} {os.stat(path).st_size} {data.classes[label]}"
        return
    # Validation images are drawn from those for training, so that both make one group.
    part = "test" if name == "test" else "train"
    for image, label in zip(split.images, split.labels, strict=True):
        content = zlib.crc32(np.ascontiguousarray(image).tobytes())
        yield f"{part}/{data.classes[label]}", f"{content:08x} {data.classes[label]}"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
