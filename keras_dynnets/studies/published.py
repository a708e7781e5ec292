"""Accuracy of published weights against their MACs and bytes, beside the points of the papers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_dynnets import families, zoo
from keras_dynnets.core.dynamic import interface
from keras_dynnets.measure.counting import count
from keras_dynnets.measure.picture import BLUE, RED, WIDTH, write_picture
from keras_dynnets.studies import Point, study_of
from keras_dynnets.zoo.weights.records import WeightsRecord


def paper_points(data: str) -> list[Point]:
    """Lists the points that the papers print for a data set.

    Args:
        data: name of the data set.
    """
    studies = [study_of(family) for family in families.NAMES]
    return [point for study in studies for point in (study.points or {}).get(data, ())]


def published_points(records: Sequence[WeightsRecord]) -> dict[str, list[Point]]:
    """Gives the points of published weights by data set.

    A model that detaches into several has a point for each of them. Its bytes are given with its
    first point alone, since all of them are in one file.

    Args:
        records: records of published weights.
    """
    points: dict[str, list[Point]] = {}
    for r in records:
        data = r.recipe["data"]
        found = points.setdefault(data, [])
        name = r.entry if r.tag == data else f"{r.entry} {r.tag.removeprefix(data + '_')}"
        found.append(Point(name, r.metrics["accuracy"], r.macs_mean, r.bytes))
        others = {k: v for k, v in r.metrics.get("sub_models", {}).items() if k != "base"}
        if others:
            model = zoo.load(r.entry, None, len(r.classes), r.input_shape, **r.options)
            parts = interface(model)
            for part, accuracy in others.items():
                macs = count(parts.part(part)).macs
                found.append(Point(f"{name} {part}", accuracy, macs, None))
    return points


def published_picture(records: Sequence[WeightsRecord], path: str | os.PathLike) -> Path:
    """Draws accuracy against mean MACs and against stored bytes, a row for every data set.

    Args:
        records: records of published weights.
        path: the PNG file to write. Its folder is made; an older file is replaced.

    Returns:
        The path of the file.

    Raises:
        ValueError: there are no records, or `path` does not end in .png.

    Example:
        >>> profile.published_picture(records, "accuracy.png")
    """
    points = published_points(records)
    if not points:
        raise ValueError("nothing is published, so there is nothing to draw; give records")

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 0.6 + 3.8 * len(points))
        grid = figure.subplots(len(points), 3, squeeze=False, width_ratios=(3, 3, 2))
        for row, (data, ours) in zip(grid, points.items(), strict=True):
            _draw_row(row, data, ours)
        for color, marker, label in ((BLUE, "o", "published here"), (RED, "^", "the papers'")):
            grid[0][0].scatter([], [], 22, color, marker=marker, label=label)
        legend = grid[0][0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside lower center", ncols=2, frameon=False)

    return write_picture(draw, path)


def _draw_row(row: Any, data: str, ours: Sequence[Point]) -> None:
    """Draws the two charts of a data set and the key to their points."""
    work, stored, key = row
    named = [(f"{i}", p, BLUE, "o") for i, p in enumerate(ours, 1)]
    named += [(chr(ord("a") + i), p, RED, "^") for i, p in enumerate(paper_points(data))]
    for axes, quantity, label in (
        (work, "macs", "MACs for one image, mean"),
        (stored, "bytes", "bytes: our files, the papers' parameters x 4"),
    ):
        _scatter(axes, named, quantity)
        axes.set_xlabel(label)
    stored.sharey(work)
    work.set_ylabel("top-1 accuracy (%)")
    work.set_title(data, loc="left")
    key.set_axis_off()
    line = min(0.058, 1 / len(named))
    for i, (mark, point, color, _) in enumerate(named):
        key.text(-0.1, 1 - line * i, f"{mark}  {point.name}", color=color, fontsize=7, va="top")


def _scatter(axes: Any, named: Sequence[tuple[str, Point, str, str]], quantity: str) -> None:
    """Draws the accuracy of points against their MACs or bytes, where these are known."""
    for mark, point, color, marker in named:
        x, y = getattr(point, quantity), 100 * point.accuracy
        if x:
            axes.scatter(x, y, 22, color, marker=marker, zorder=3)
            axes.annotate(mark, (x, y), (4, 2), textcoords="offset points", fontsize=8, color=color)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.1)
    axes.grid(color="#e4e6e8")
    axes.set_axisbelow(True)
