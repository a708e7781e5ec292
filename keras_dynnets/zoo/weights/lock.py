"""A file lock between processes, which the operating system releases when its holder dies."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

if os.name == "nt":
    import msvcrt

    def _try_lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


BUSY = (BlockingIOError, PermissionError)  # raised on POSIX and on Windows while the lock is held
POLL = 0.05  # seconds between two attempts


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Holds an exclusive lock on the file `path` inside a `with` block.

    The file is created if it is missing, and it is never removed: another process may already
    wait for a lock on it.

    Args:
        path: the lock file. Its folder must exist.
        seconds: how long to wait for another process that holds the lock.

    Raises:
        TimeoutError: another process still holds the lock after `seconds`.
        OSError: the lock file cannot be written.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                _try_lock(handle)
                break
            except BUSY as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"another process has held {path} for {seconds:.0f} s"
                    ) from error
            time.sleep(POLL)
        yield
    finally:
        os.close(handle)  # this also releases the lock
