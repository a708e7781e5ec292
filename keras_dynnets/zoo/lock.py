"""A lock between processes that the operating system takes back from one that dies."""

import contextlib
import os
import time

if os.name == "nt":
    import msvcrt

    def _try_lock(handle):
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(handle):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


BUSY = (BlockingIOError, PermissionError)  # what the two systems raise while another process holds it
POLL = 0.05  # seconds


@contextlib.contextmanager
def locked(path, seconds):
    """Holds the lock that is the file `path`, which is created and then stays: removing it would race.

    Args:
        path: of the lock file; its folder exists.
        seconds: to wait for another process that holds it.

    Raises:
        TimeoutError: it still does.
        OSError: the file cannot be written.
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
                    raise TimeoutError(f"another process has held {path} for {seconds:.0f} s") from error
            time.sleep(POLL)
        yield
    finally:
        os.close(handle)  # which unlocks it
