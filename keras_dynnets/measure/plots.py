"""Pictures of what images cost a network, and of what networks reach for their cost."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dynnets.measure.per_image import Measurement
from keras_dynnets.measure.picture import BLUE, GREY, RED, WIDTH, write_picture

LIGHT_GREY = "#e4e6e8"


def macs_histogram(measurement: Measurement, path: str | os.PathLike) -> Path:
    """Draws how many images take how many MACs.

    Args:
        measurement: what `measure` gives.
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.

    Returns:
        The path.

    Raises:
        ValueError: `path` does not end in ".png".

    Example:
        >>> profile.macs_histogram(profile.measure(model, images), "macs.png")
    """
    unit, scale = ("GMACs", 1e9) if measurement.worst_macs >= 1e9 else ("MMACs", 1e6)
    macs, worst = measurement.macs / scale, measurement.worst_macs / scale

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 3.8)
        axes = figure.subplots()
        axes.hist(
            macs, np.linspace(0, worst, 26), color=BLUE, edgecolor="white", linewidth=0.5, zorder=2
        )
        for x, color, style, name in (
            (macs.mean(), RED, "-", f"mean: {macs.mean():.3g} {unit}"),
            (worst, GREY, "--", f"all paths on: {worst:.3g} {unit}"),
        ):
            axes.axvline(x, color=color, linestyle=style, linewidth=1.5, label=name, zorder=3)
        axes.set_xlim(0, 1.02 * worst)
        axes.set_xlabel(f"cost of an image ({unit})")
        axes.set_ylabel("images (number)")
        axes.grid(axis="y", color=LIGHT_GREY, zorder=0)
        axes.set_title(
            f"{len(macs):,} images take {measurement.mean_macs_share:.0%} of the MACs of all paths",
            loc="left",
        )
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    return write_picture(draw, path)


def accuracy_against_macs(
    models: Mapping[str, tuple[float, float, float]],
    path: str | os.PathLike,
    title: str = "accuracy and cost",
) -> Path:
    """Draws the accuracy of networks over their MACs.

    Networks of the same width are joined by a line.

    Args:
        models: for the name of each network its accuracy in [0, 1], its MACs for one image, and
            its width, as the share of the filters that its layers have.
        path: path of the PNG file, see `macs_histogram`.
        title: the line above the picture.

    Returns:
        The path.

    Raises:
        ValueError: `path` does not end in ".png".

    Example:
        >>> models = {"small": (0.81, 2e7, 1.0), "large": (0.88, 9e7, 1.0)}
        >>> profile.accuracy_against_macs(models, "accuracy.png")
    """

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 4.2)
        axes = figure.subplots()
        widths = sorted({width for *_, width in models.values()}, reverse=True)
        for i, width in enumerate(widths):
            of_width = {name: model for name, model in models.items() if model[2] == width}
            points = sorted(
                (macs / 1e6, 100 * accuracy, name) for name, (accuracy, macs, _) in of_width.items()
            )
            color = (BLUE, RED, GREY)[i % 3]
            style = ("o-", "s--", "^:")[i % 3]
            axes.plot(
                *zip(*[p[:2] for p in points], strict=True),
                style,
                color=color,
                label=f"width {width:g}",
            )
            for k, (x, y, name) in enumerate(points):
                axes.annotate(
                    name,
                    (x, y),
                    (4, 6 if k % 2 else -12),
                    textcoords="offset points",
                    color=color,
                    fontsize=9,
                )
        axes.set_xlim(0, None)
        axes.set_xlabel("MACs an image (millions)")
        axes.set_ylabel("top-1 accuracy (%)")
        axes.grid(color=LIGHT_GREY)
        axes.set_axisbelow(True)
        axes.set_title(title, loc="left")
        if len(widths) > 1:
            figure.legend(loc="outside lower center", ncols=len(widths), frameon=False)

    return write_picture(draw, path)


def execution_rates(
    measurement: Measurement, labels: Any, class_names: Sequence[str], path: str | os.PathLike
) -> Path:
    """Draws how often each sub-block ran on the images of each class, as a heat map.

    A class without images is grey.

    Args:
        measurement: what `measure` gives for a network with gates.
        labels: classes of the images, integers (n,).
        class_names: names of the network's classes in the order of the logits.
        path: path of the PNG file, see `macs_histogram`.

    Returns:
        The path.

    Raises:
        ValueError: the network has no gates, the labels or names do not fit the measurement, or
            `path` does not end in ".png".

    Example:
        >>> measured = profile.measure(model, images)
        >>> profile.execution_rates(measured, labels, names, "rates.png")
    """
    _, blocks, sub_blocks = measurement.gates.shape
    if not blocks:
        raise ValueError(
            "this network has no sub-blocks, so there are no execution rates to draw; measure a "
            "network with gates"
        )
    names = _names(measurement, class_names)
    rates = np.ma.masked_invalid(
        measurement.execution_rate_by_class(labels).reshape(len(names), blocks, sub_blocks)
    )

    def draw(figure: Any) -> None:
        import matplotlib

        row = 0.28 if len(names) <= 25 else 0.15
        figure.set_size_inches(WIDTH, min(24, max(3.2, 1.3 + row * len(names))))
        axes = figure.subplots()
        # "bad" is the colour of NaN, the rate of a class without images.
        colors = matplotlib.colormaps["viridis"].with_extremes(bad=LIGHT_GREY)
        starts = np.arange(blocks) * (sub_blocks + 0.5)
        for block, start in enumerate(starts):
            mesh = axes.pcolormesh(
                start + np.arange(sub_blocks + 1),
                np.arange(len(names) + 1),
                rates[:, block],
                vmin=0,
                vmax=1,
                cmap=colors,
                edgecolors="white",
                linewidth=0.3,
            )
        axes.set_xlim(0, starts[-1] + sub_blocks)
        axes.set_ylim(len(names), 0)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        step = math.ceil(len(names) / 150)
        axes.set_yticks(
            np.arange(0, len(names), step) + 0.5, names[::step], fontsize=10 if row > 0.2 else 7
        )
        axes.set_xticks(
            starts + sub_blocks / 2, range(1, blocks + 1), fontsize=10 if blocks <= 20 else 7
        )
        order = "1 and 2" if sub_blocks == 2 else f"1 to {sub_blocks}"
        axes.set_xlabel(f"block (sub-blocks {order} from left to right)")
        axes.set_ylabel("class")
        axes.set_title(
            f"Sub-blocks that run: {measurement.mean_execution_rate:.0%} on average", loc="left"
        )
        label = "execution rate (share of images)"
        bar = figure.colorbar(
            mesh, ax=axes, pad=0.02, fraction=0.05, aspect=25, anchor=(0, 1), label=label
        )
        bar.outline.set_visible(False)

    return write_picture(draw, path)


def easy_and_hard(
    measurement: Measurement,
    images: Any,
    labels: Any,
    class_names: Sequence[str],
    path: str | os.PathLike,
    k: int = 8,
    classes: Sequence[int] | None = None,
) -> Path:
    """Draws the images of each class that take the fewest and the most MACs.

    The number above an image is its share of the MACs with all paths on.

    Args:
        measurement: what `measure` gives.
        images: the measured images, (n, height, width, 3), uint8 or float in [0, 255].
        labels: classes of the images, integers (n,).
        class_names: names of the network's classes in the order of the logits.
        path: path of the PNG file, see `macs_histogram`.
        k: number of images on either side.
        classes: numbers of the classes to show, one in each row; None for all that have images.

    Returns:
        The path.

    Raises:
        ValueError: the images, labels or names do not fit the measurement, a class has no images,
            `k` is below 1, or `path` does not end in ".png".

    Example:
        >>> measured = profile.measure(model, images)
        >>> profile.easy_and_hard(measured, images, labels, names, "easy.png", classes=[3, 5])
    """
    names = _names(measurement, class_names)
    if len(images) != len(measurement.macs):
        raise ValueError(
            f"{len(measurement.macs)} images were measured and {len(images)} are given; give the "
            "same images"
        )
    shown = np.unique(labels) if classes is None else classes
    rows = [(klass, *measurement.easiest_and_hardest(labels, klass, k)) for klass in shown]

    def draw(figure: Any) -> None:
        margin = 0.1 * max(len(names[klass]) for klass, *_ in rows)
        figure.set_size_inches(WIDTH, 0.55 + len(rows) * (0.19 + (WIDTH - margin) / (2 * k + 0.5)))
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
        grid = figure.add_gridspec(len(rows), 2 * k + 1, width_ratios=[1] * k + [0.5] + [1] * k)
        for r, (klass, *sides) in enumerate(rows):
            for side, chosen in enumerate(sides):
                for column, image in enumerate(chosen):
                    axes = figure.add_subplot(grid[r, side * (k + 1) + column])
                    axes.imshow(
                        np.asarray(images[image]).round().astype("uint8"), interpolation="nearest"
                    )
                    axes.set_title(
                        f"{measurement.macs_share[image]:.0%}", fontsize=min(8, 64 / k), pad=2
                    )
                    axes.set(xticks=[], yticks=[])
                    axes.spines[:].set_visible(False)
                    if side == column == 0:
                        axes.set_ylabel(
                            names[klass], rotation=0, ha="right", va="center", labelpad=6
                        )
        figure.suptitle(
            "Easiest (left) and hardest images (right) by their MACs, in % of all paths on",
            x=0.01,
            ha="left",
        )

    return write_picture(draw, path)


def _names(measurement: Measurement, class_names: Sequence[str]) -> list[str]:
    """Gives the names of the classes, after checking their number."""
    names, count = [str(name) for name in class_names], measurement.logits.shape[1]
    if len(names) != count:
        raise ValueError(
            f"the network has {count} classes and {len(names)} names are given; give one name for "
            "each class, in the order of the logits"
        )
    return names
