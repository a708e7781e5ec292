"""Pictures of a `PuppetCNN`: complexities of images, generated kernels, levels, stored bytes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from keras_dynnets.core import graph
from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.families.puppet.model import PuppetCNN
from keras_dynnets.measure.picture import BLUE, GREY, RED, WIDTH, write_picture
from keras_dynnets.measure.plots import LIGHT_GREY

SHOWN = 16  # input channels and output channels of a kernel that are drawn
EXACT = 8  # images that run at once if each has kernels of its own


def complexity_histogram(model: PuppetCNN, images: np.ndarray, path: str | os.PathLike) -> Path:
    """Draws how complex images are, and how many convolutions run for them.

    Args:
        model: a `PuppetCNN` that knows the complexities of its training images.
        images: (n, height, width, channels) in [0, 255].
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.

    Returns:
        The path.

    Raises:
        ValueError: the images do not fit the model, or `path` does not end in ".png".

    Example:
        >>> profile.complexity_histogram(model, images, "complexity.png")
    """
    found = complexity(images)
    depths = np.array(model.depths)[model.levels_of(images)]

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        bins = np.linspace(found.min(), found.max() + 1e-6, 41)
        kinds = np.unique(depths)
        shades = [BLUE] if len(kinds) == 1 else _shades(len(kinds))
        left.hist([found[depths == d] for d in kinds], bins, stacked=True, color=shades, zorder=2)
        left.set_xlabel("complexity (0 to 1)")
        left.set_ylabel("images (number)")
        left.set_title(f"{len(images):,} images", loc="left")
        counts = [(depths == d).sum() for d in kinds]
        right.bar([str(d) for d in kinds], counts, color=shades, zorder=2)
        right.set_xlabel("convolutions that run")
        right.set_title(f"mean: {depths.mean():.1f}", loc="left")
        for axes in (left, right):
            axes.grid(axis="y", color=LIGHT_GREY, zorder=0)

    return write_picture(draw, path)


def simple_and_complex(
    model: PuppetCNN, images: np.ndarray, path: str | os.PathLike, k: int = 8
) -> Path:
    """Draws the simplest and the most complex images.

    Above each image stand its complexity and the number of convolutions that run for it.

    Args:
        model: a `PuppetCNN` that knows the complexities of its training images.
        images: (n, height, width, channels) in [0, 255].
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.
        k: number of simple and of complex images, at most half of all images.

    Returns:
        The path.

    Raises:
        ValueError: the images do not fit the model, `k` is below 1, or `path` does not end in
            ".png".

    Example:
        >>> profile.simple_and_complex(model, images, "simple_and_complex.png", k=4)
    """
    if k < 1:
        raise ValueError(f"k is a number of images, 1 or more, not {k}")
    k = min(k, max(1, len(images) // 2))
    found = complexity(images)
    depths = np.array(model.depths)[model.levels_of(images)]
    order = np.argsort(found, kind="stable")

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 0.8 + 2 * (0.25 + WIDTH / (k + 0.5)))
        grid = figure.subplots(2, k, squeeze=False)
        for row, chosen in zip(grid, (order[:k], order[::-1][:k]), strict=True):
            for axes in row:
                axes.set_axis_off()
            for axes, i in zip(row, chosen, strict=False):
                picture = np.asarray(images[i]).round().astype("uint8")
                axes.imshow(
                    picture[..., 0] if picture.shape[-1] == 1 else picture,
                    cmap="gray",
                    interpolation="nearest",
                )
                axes.set_title(f"{found[i]:.2f}, {depths[i]}", fontsize=8, pad=2)
        figure.suptitle(
            "The simplest and the most complex images: complexity, convolutions that run",
            x=0.01,
            ha="left",
        )

    return write_picture(draw, path)


def kernels_along_ode(model: PuppetCNN, path: str | os.PathLike, level: int | None = None) -> Path:
    """Draws the kernels of all layers of a level, in the order in which the ODE generates them.

    Each layer has a panel with its first 16 input channels as rows and its first 16 output
    channels as columns.

    Args:
        model: a `PuppetCNN`.
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.
        level: an index into `model.depths`; None for the last level.

    Returns:
        The path.

    Raises:
        ValueError: there is no such level, or `path` does not end in ".png".

    Example:
        >>> profile.kernels_along_ode(model, "kernels.png", level=0)
    """
    levels = range(len(model.depths))
    if level is not None and level not in levels:
        raise ValueError(f"{model.name} has levels 0 to {len(levels) - 1}, not {level!r}")
    kernels = model.puppet.kernels(levels[-1] if level is None else level)

    def draw(figure: Any) -> None:
        columns = min(4, len(kernels))
        rows = -(-len(kernels) // columns)
        figure.set_size_inches(WIDTH, 0.6 + rows * (0.3 + WIDTH / columns))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (layer, kernel) in zip(grid, kernels.items(), strict=False):
            values = ops.convert_to_numpy(kernel)
            largest = np.abs(values).max()
            axes.imshow(
                _tiles(values[:, :, :SHOWN, :SHOWN] / largest), cmap="RdBu_r", vmin=-1, vmax=1
            )
            axes.set_title(
                f"{layer.name}, {' x '.join(map(str, values.shape))}", fontsize=8, loc="left"
            )
        figure.suptitle(f"Kernels along the ODE, {len(kernels)} steps", x=0.01, ha="left")

    return write_picture(draw, path)


def levels_curve(
    model: PuppetCNN,
    images: np.ndarray,
    path: str | os.PathLike,
    counts: Sequence[int] = (1, 2, 4, 8, 16, 32),
) -> dict[int, tuple[float, float]]:
    """Draws how near levels come to kernels generated for every image, by the number of levels.

    All networks have the batch-norm statistics of the form without levels, so that only kernels
    and depths differ.

    Args:
        model: a trained `PuppetCNN`.
        images: images for the statistics and the comparison, some hundred, (n, height, width,
            channels) in [0, 255].
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.
        counts: numbers of levels.

    Returns:
        By the number of levels: the mean difference of the logits divided by their standard
        deviation, and the share of images with the same class first.

    Raises:
        ValueError: the images do not fit the model, or `path` does not end in ".png".

    Example:
        >>> found = profile.levels_curve(model, images, "levels.png", counts=(1, 8))
        >>> difference, agreement = found[8]
    """
    images = np.asarray(images, "float32")
    exact = _with_levels(model, None)
    exact.calibrate(images, EXACT)
    wanted = exact.predict(images, EXACT, verbose=0)
    by_depth = dict(zip(exact.depths, ops.convert_to_numpy(exact.puppet.statistics), strict=True))
    found = {}
    for count in counts:
        levelled = _with_levels(model, count)
        levelled.puppet.statistics.assign(np.stack([by_depth[depth] for depth in levelled.depths]))
        logits = ops.convert_to_numpy(levelled(images))
        difference = float(np.abs(logits - wanted).mean() / wanted.std())
        found[count] = (difference, float((logits.argmax(-1) == wanted.argmax(-1)).mean()))

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 3.4)
        for axes, values, label, color in zip(
            figure.subplots(1, 2),
            zip(*found.values(), strict=True),
            ("mean difference of logits (deviations)", "same class first (share of images)"),
            (BLUE, RED),
            strict=True,
        ):
            axes.plot(list(found), values, "o-", color=color)
            axes.set_xscale("log", base=2)
            axes.set_ylim(0, 1.08 * max(values))
            axes.set_xticks(list(found), [str(count) for count in found])
            axes.set_xlabel("levels")
            axes.set_ylabel(label)
            axes.grid(color=LIGHT_GREY)
        figure.suptitle("Levels against kernels generated for every image", x=0.01, ha="left")

    write_picture(draw, path)
    return found


def stored_bytes(model: PuppetCNN, path: str | os.PathLike) -> Path:
    """Draws how many bytes a `PuppetCNN` stores, beside plain CNNs of its depths.

    Args:
        model: a `PuppetCNN` with levels.
        path: path of the PNG file. Its folder is made if there is none, and an older file is
            replaced.

    Returns:
        The path.

    Raises:
        ValueError: the model has no levels, or `path` does not end in ".png".

    Example:
        >>> profile.stored_bytes(model, "stored_bytes.png")
    """
    own = sum(int(np.prod(weight.shape)) for weight in model.puppet.weights) * 4 / 1e6
    levels = {depth: level for level, depth in enumerate(model.depths)}
    plain = {
        depth: model.materialise(level).count_params() * 4 / 1e6 for depth, level in levels.items()
    }

    def draw(figure: Any) -> None:
        figure.set_size_inches(WIDTH, 3.4)
        axes = figure.subplots()
        axes.plot(
            *zip(*plain.items(), strict=True),
            "o-",
            color=GREY,
            label="plain CNN with constant kernels",
        )
        axes.plot(
            [min(plain), max(plain)],
            [own, own],
            "s-",
            color=RED,
            label=f"{model.name}, all depths: {own:.3g} MB",
        )
        axes.set_ylim(0, None)
        axes.set_xticks(list(plain))
        axes.set_xlabel("convolutions")
        axes.set_ylabel("stored float32 values (MB)")
        axes.grid(color=LIGHT_GREY)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    return write_picture(draw, path)


def _with_levels(model: PuppetCNN, levels: int | None) -> PuppetCNN:
    """Gives a model with the same weights and another number of levels, not yet calibrated."""
    other = type(model).from_config({**model.get_config(), "levels": levels})
    other.puppet.ode.set_weights(model.puppet.ode.get_weights())
    other.puppet.quantiles.assign(model.puppet.quantiles)
    for own, layer in zip(model.puppet.kept, other.puppet.kept, strict=True):
        graph.set_weights(layer, own.get_weights())
    return other


def _shades(count: int) -> list[Any]:
    """Gives colours from dark to bright."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](x) for x in np.linspace(0.1, 0.9, count)]


def _tiles(kernels: np.ndarray) -> np.ndarray:
    """Puts kernels (height, width, inputs, outputs) side by side, with a white line between."""
    height, width, inputs, outputs = kernels.shape
    canvas = np.zeros((inputs, height + 1, outputs, width + 1), kernels.dtype)
    canvas[:, :height, :, :width] = kernels.transpose(2, 0, 3, 1)
    return canvas.reshape(inputs * (height + 1), outputs * (width + 1))[:-1, :-1]
