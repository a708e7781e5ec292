"""What the command line prints, and what it keeps away from the terminal."""

import contextlib
import dataclasses
import json
import linecache
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

PACKAGE = Path(__file__).parents[1]
EXPLAINED = (ValueError, TypeError, ImportError, RuntimeError, LookupError)


@dataclasses.dataclass
class Settings:
    """How much the command line says."""

    verbose: bool = False
    quiet: bool = False


settings = Settings()


def say(text: str) -> None:
    """Prints a line about what is going on; nothing with `--quiet`."""
    if not settings.quiet:
        err.print(text)


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json.dumps(value, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # of pydantic
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_rows(rows: Iterable[dict[str, str]]) -> None:
    """Prints rows under the names of their columns, each column as wide as it needs."""
    rows = list(rows)
    widths = {
        key: max(len(key), *(len(row[key]) for row in rows)) for row in rows[:1] for key in row
    }
    for line in [dict(zip(widths, widths, strict=True)), *rows] if rows else []:
        cells = [_aligned(line[key], width) for key, width in widths.items()]
        out.print("  ".join(cells).rstrip())


def _aligned(text: str, width: int) -> str:
    number = text[:1].isdigit() or text[:1] in "+-"
    return text.rjust(width) if number else text.ljust(width)


class Lines:
    """Prints rows of a table as they come, under a heading."""

    def __init__(self) -> None:
        self.widths: dict[str, int] = {}

    def __call__(self, row: Any) -> None:
        cells = row.cells()
        if not self.widths:
            self.widths = {key: max(len(key), len(text) + 4) for key, text in cells.items()}
            self._print({key: key for key in cells})
        self._print(cells)

    def _print(self, cells: dict[str, str]) -> None:
        line = "  ".join(_aligned(text, self.widths[key]) for key, text in cells.items())
        out.print(line.rstrip())


@contextlib.contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar with the time left; gives a function of the work done so far.

    It shows only on a terminal and without `--quiet`, and disappears when the work is done.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    hidden = settings.quiet or not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=hidden) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps the log lines of TensorFlow, absl, XNNPACK and others away from the terminal.

    Their compiled parts write to file descriptor 2 whatever Python is told, so that descriptor
    leads nowhere for a while, and Python's own standard error goes round it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.stderr.flush()
    terminal, nowhere, stderr = os.dup(2), os.open(os.devnull, os.O_WRONLY), sys.stderr
    try:
        on_terminal = stderr.fileno() == 2
    except (OSError, AttributeError, ValueError):
        on_terminal = False  # something else already takes what Python writes
    try:
        os.dup2(nowhere, 2)
        if on_terminal:
            sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=r"keras_dynnets(\..*)?")
            warnings.showwarning = _show_warning
            for name in ("absl", "tensorflow", "h5py", "matplotlib", "jax"):
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        sys.stderr.flush()
        if on_terminal:
            sys.stderr.close()
            sys.stderr = stderr
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def _show_warning(message: Any, category: Any, *place: Any) -> None:
    if category.__module__.startswith("keras_dynnets"):
        say(f"warning: {message}")


def report(error: BaseException) -> int:
    """Prints an error and gives the exit status of the command.

    An error that the library raises on purpose, and one of the operating system, is one line. Any
    other is a fault of the library's own: a traceback, and how to report it.
    """
    if isinstance(error, OSError) or (isinstance(error, EXPLAINED) and _raised_here(error)):
        lines = str(error) or type(error).__name__
        err.print(f"error: {lines}", style="red")
        return 2
    err.print("".join(traceback.format_exception(error)).rstrip())
    err.print(
        "This is a fault of keras_dynnets. Please report it with the lines above, the command and "
        "the output of `keras-dynnets --version`.",
        style="red",
    )
    return 1


def _raised_here(error: BaseException) -> bool:
    """Says whether a `raise` statement of this package raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not Path(frames[-1].filename).is_relative_to(PACKAGE):
        return False
    return (
        linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip().startswith("raise")
    )
