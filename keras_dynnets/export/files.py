"""The files of an export, which appear only when they are complete and checked."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_dynnets.export.formats.base import Format


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Makes a folder to work in, next to a path, for the time of a `with` block.

    Args:
        path: of the file or folder that will be written. Missing folders above it are made.

    Yields:
        The path of the folder.

    Raises:
        OSError: something cannot be written, inside the block too; the message names `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            error.errno,
            f"{path} was not written ({reason}); give a path that can be written, with room for it",
        ) from error


def check_replaceable(path: Path, target: Format, several: bool) -> None:
    """Refuses to replace what is no export of the same kind.

    Args:
        path: of the file or folder that will be written.
        target: the format.
        several: whether the export has several networks.

    Raises:
        FileExistsError: something else is at this path.
    """
    marker = target.marker(several)
    if path.is_dir() and not (marker and (path / marker).is_file()):
        raise FileExistsError(errno.EEXIST, f"a folder that is no {target.name} export is there")
    if path.is_file() and marker:
        raise FileExistsError(errno.EEXIST, "a file is there, and this export is a folder")


def move(draft: Path, path: Path) -> None:
    """Moves a finished file or folder to its place and replaces what is there.

    Args:
        draft: where it is.
        path: where it goes.
    """
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(draft, path)


def fingerprint(path: Path) -> tuple[int, str]:
    """Gives the size in bytes and the SHA-256 hash of a file or folder.

    Args:
        path: of a file, or of a folder, whose files count in the order of their names.
    """
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    digest, size = hashlib.sha256(), 0
    for file in files:
        content = file.read_bytes()
        digest.update(content)
        size += len(content)
    return size, digest.hexdigest()
