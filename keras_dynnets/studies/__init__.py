"""What the papers show, with our figures beside theirs: a module for each family."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table to print.

    Attributes:
        title: a line above it.
        rows: a dict for each row, of texts by the name of the column.
        notes: lines below it.
    """

    title: str
    rows: list[dict[str, str]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchRequest:
    """What a benchmark of a family is asked for.

    Attributes:
        rates: shares of the gated branches to run; None for the default.
        runtimes: names of runtimes; None for all.
        threads: of each runtime.
        repeats: timed calls for each row.
        progress: called with every row, which has a method `cells()`, as it comes.
    """

    rates: Sequence[float] | None = None
    runtimes: Sequence[str] | None = None
    threads: int = 1
    repeats: int = 5
    progress: Callable[[Any], Any] = lambda row: None

    def without_rates(self) -> "BenchRequest":
        """Gives the request, for a family whose networks have no gates to force.

        Raises:
            ValueError: it asks for rates.
        """
        if self.rates:
            raise ValueError("rates are for networks with gates; leave them out")
        return self


@dataclass(frozen=True)
class Point:
    """A network's accuracy in [0, 1], with its MACs for one image and its bytes where known."""

    name: str
    accuracy: float
    macs: float | None
    bytes: float | None


@dataclass(frozen=True)
class Study:
    """What the command line can show of a family.

    Attributes:
        table: gives the paper's table with our figures beside it.
        bench: times a network of the family, given its name and a `BenchRequest`.
        draw: draws pictures of an evaluation, given the model, its data and a folder; gives the
            paths of the pictures.
        points: points that the paper prints, by the name of the data set.
    """

    table: Callable[[], Table] | None = None
    bench: Callable[[str, BenchRequest], list] | None = None
    draw: Callable[[Any, Any, Path], list[Path]] | None = None
    points: dict[str, tuple[Point, ...]] | None = None


def study_of(family: str) -> Study:
    """Gives the study of a family; an empty one for a family without."""
    place = f"{__name__}.{family}"
    if not family.isidentifier() or importlib.util.find_spec(place) is None:
        return Study()
    return getattr(importlib.import_module(place), "STUDY", Study())
