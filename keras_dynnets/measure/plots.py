"""Pictures of a `Measurement` and of a `CNSN`."""

import math

import numpy as np

from keras_dynnets.measure.picture import BLUE, GREY, RED, WIDTH, write_picture


def macs_histogram(measurement, path):
    """How many images take how many MACs.

    Args:
        measurement: of `measure`.
        path: the PNG file to write; its folder is made, an older file replaced whole.

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: `path` does not end in .png.
    """
    unit, scale = ("GMACs", 1e9) if measurement.worst_macs >= 1e9 else ("MMACs", 1e6)
    macs, worst = measurement.macs / scale, measurement.worst_macs / scale

    def draw(figure):
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
        axes.grid(axis="y", color="#e4e6e8", zorder=0)
        axes.set_title(
            f"{len(macs):,} images take {measurement.mean_macs_share:.0%} of the MACs of all paths",
            loc="left",
        )
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    return write_picture(draw, path)


def accuracy_against_macs(models, path, title="accuracy and cost"):
    """What every model of a `CNSN` reaches for its MACs.

    Args:
        models: {name: (accuracy in [0, 1], MACs an image, share of the filters)}; models of one share are joined.
        path: as in `macs_histogram`.
        title: above the picture.

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: `path` does not end in .png.
    """

    def draw(figure):
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
        axes.grid(color="#e4e6e8")
        axes.set_axisbelow(True)
        axes.set_title(title, loc="left")
        if len(widths) > 1:
            figure.legend(loc="outside lower center", ncols=len(widths), frameon=False)

    return write_picture(draw, path)


def execution_rates(measurement, labels, class_names, path):
    """Heat map of how often every sub-block ran on the images of every class.

    Args:
        measurement: of `measure`, of a network with gates.
        labels: classes of the images, integers (n,).
        class_names: names of the network's classes, in order.
        path: as in `macs_histogram`.

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: a network without gates, wrong labels or names, `path` not a .png.
    """
    _, blocks, sub_blocks = measurement.gates.shape
    if not blocks:
        raise ValueError(
            "this network has no sub-blocks, so there are no execution rates to draw; measure a DMNN"
        )
    names = _names(measurement, class_names)
    rates = np.ma.masked_invalid(
        measurement.execution_rate_by_class(labels).reshape(len(names), blocks, sub_blocks)
    )

    def draw(figure):
        import matplotlib

        row = 0.28 if len(names) <= 25 else 0.15
        figure.set_size_inches(WIDTH, min(24, max(3.2, 1.3 + row * len(names))))
        axes = figure.subplots()
        colors = matplotlib.colormaps["viridis"].with_extremes(
            bad="#e4e6e8"
        )  # a class without images
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
        order = (
            " and ".join(map(str, range(1, sub_blocks + 1)))
            if sub_blocks == 2
            else f"1 to {sub_blocks}"
        )
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


def easy_and_hard(measurement, images, labels, class_names, path, k=8, classes=None):
    """The images of every class that take the fewest and the most MACs.

    Above an image stand its MACs in parts of those of all paths.

    Args:
        measurement: of `measure`.
        images: the measured images, (n, height, width, 3), uint8 or float in [0, 255].
        labels: classes of the images, integers (n,).
        class_names: names of the network's classes, in order.
        path: as in `macs_histogram`.
        k: images on either side.
        classes: numbers of the classes to show, one a row; None for all that have images.

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: images, labels or names that are not of the measurement, a class
            without images, `k` below 1, `path` not a .png.
    """
    names = _names(measurement, class_names)
    if len(images) != len(measurement.macs):
        raise ValueError(
            f"{len(measurement.macs)} images were measured and {len(images)} are given; give the same ones"
        )
    classes = np.unique(labels) if classes is None else classes
    rows = [(klass, *measurement.easiest_and_hardest(labels, klass, k)) for klass in classes]

    def draw(figure):
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


def _names(measurement, class_names):
    names, count = [str(name) for name in class_names], measurement.logits.shape[1]
    if len(names) != count:
        raise ValueError(
            f"the network has {count} classes and {len(names)} names are given; give one a class, in order"
        )
    return names
