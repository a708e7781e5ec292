"""How fast image files are read, and how much memory it takes."""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from keras_dynnets.core.photos import MARGIN, read_image

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
BATCH = 64  # images held at a time
LARGE = (4000, 3000)  # width and height of 12 megapixels
LARGE_COUNT = 12  # photos that are enlarged


@dataclass(frozen=True)
class Reading:
    """How one way of reading did on one kind of photos.

    Attributes:
        photos: the kind of photos.
        way: "read_image, in batches", or "decoded whole, held at once".
        count: number of photos.
        rate: photos in a second of one processor core, in the fastest of three rounds.
        megabytes: the most memory that the reading took in addition.
    """

    photos: str
    way: str
    count: int
    rate: float
    megabytes: float

    def cells(self) -> dict[str, str]:
        """Gives the row of a table."""
        return {
            "photos": f"{self.photos} ({self.count})",
            "way": self.way,
            "photos/s of a core": f"{self.rate:.1f}",
            "MB at most": f"{self.megabytes:.0f}",
        }


def reading_speed(
    folder: str | Path,
    size: int = 224,
    count: int = 200,
    progress: Callable[[Reading], None] = lambda row: None,
) -> list[Reading]:
    """Measures reading photos batch by batch against decoding them whole and holding them all.

    Each way runs in a process of its own, in turns, so that its memory can be told.

    Args:
        folder: a folder with image files at any depth.
        size: height and width that they are resized to.
        count: number of files to read at most.
        progress: called with each row.

    Returns:
        Two rows for the photos as they are, and two for some of them enlarged to 12 megapixels.

    Raises:
        ValueError: the folder holds no image file, or one that cannot be read.
    """
    files = sorted(p for p in Path(folder).expanduser().rglob("*") if p.suffix.lower() in ENDINGS)
    if not files:
        raise ValueError(f"{folder} holds no image files; give a folder with photos")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        large = []
        for i, path in enumerate(files[:LARGE_COUNT]):
            large.append(Path(scratch) / f"{i}.jpg")
            with Image.open(path) as image:
                image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(
                    large[-1], quality=90
                )
        for name, chosen in (("as they are", files[:count]), ("of 12 megapixels", large)):
            ways = {"read_image, in batches": _in_batches, "decoded whole, held at once": _at_once}
            measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(3):
                for way, read in ways.items():
                    measured[way].append(_alone(read, chosen, size))
            for way, found in measured.items():
                seconds = min(time_taken for time_taken, _ in found)
                most = max(megabytes for _, megabytes in found)
                rows.append(Reading(name, way, len(chosen), len(chosen) / seconds, most))
                progress(rows[-1])
    return rows


def _in_batches(files: Sequence[Path], size: int) -> None:
    for start in range(0, len(files), BATCH):
        np.stack([read_image(path, size) for path in files[start : start + BATCH]])


def _at_once(files: Sequence[Path], size: int) -> None:
    """Reads as plain use of Pillow does; a test set in memory is float32."""
    images = []
    for path in files:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        side = min(image.size) / MARGIN
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        images.append(np.asarray(resized))
    np.stack(images).astype("float32")


def _alone(read: Callable[..., None], files: Sequence[Path], size: int) -> tuple[float, float]:
    """Runs a way of reading in a process of its own; gives its seconds of a core and megabytes."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(theirs, read, files, size))
    process.start()
    theirs.close()
    try:
        result = ours.recv()
    except EOFError as error:
        raise ValueError("the process that read the photos ended early; see above") from error
    finally:
        process.join()
    if isinstance(result, str):
        raise ValueError(result)
    return result


def _measured(
    answer: Connection,
    read: Callable[..., None],
    files: Sequence[Path],
    size: int,
) -> None:
    try:
        before, started = _peak(), time.process_time()
        read(files, size)
        answer.send((time.process_time() - started, _peak() - before))
    except Exception as error:
        answer.send(str(error))


def _peak() -> float:
    """The most memory that this process has had, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
