#!/usr/bin/env python3
"""Draws the schematic figures of the documentation: one a family, and an overview of all four.

    python docs/figures/make_figures.py            writes the SVG files beside this script
    python docs/figures/make_figures.py --png DIR  writes PNG copies to DIR, to look at

Needs matplotlib and no data. The same matplotlib gives the same bytes each time.
"""

import argparse
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

INK, SOFT = "#1f2937", "#6b7280"
GREY, GREY_FILL = "#9ca3af", "#f1f3f5"
BLUE, BLUE_FILL = "#2b6cb0", "#dbeafe"
GREEN, GREEN_FILL = "#2f855a", "#d8f3e3"
ORANGE, ORANGE_FILL = "#b7620a", "#feebc8"
PURPLE, PURPLE_FILL = "#6b46c1", "#e9e3fb"
WIDTH = 100.0  # of every drawing, in its own units


def box(
    ax: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    text: str = "",
    edge: str = BLUE,
    fill: str = BLUE_FILL,
    dashed: bool = False,
    size: float = 9,
    color: str | None = None,
) -> None:
    """Draws a box with rounded corners whose middle is (x, y)."""
    style = "round,pad=0,rounding_size=0.9"
    patch = FancyBboxPatch(
        (x - w / 2, y - h / 2),
        w,
        h,
        boxstyle=style,
        edgecolor=edge,
        facecolor=fill,
        linewidth=1.3,
        linestyle=(0, (3, 2)) if dashed else "solid",
        zorder=3,
    )
    ax.add_patch(patch)
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=color or INK,
        zorder=4,
        linespacing=1.25,
    )


def arrow(
    ax: Axes,
    points: list[tuple[float, float]],
    color: str = INK,
    dashed: bool = False,
    head: bool = True,
    width: float = 1.3,
) -> None:
    """Draws a line through points, with an arrow head at the last one."""
    line = (0, (3, 2)) if dashed else "solid"
    xs, ys = zip(*points, strict=True)
    if len(points) > 2:
        ax.plot(xs[:-1], ys[:-1], color=color, lw=width, ls=line, solid_capstyle="butt", zorder=2)
    style = "-|>,head_length=4.5,head_width=2.2" if head else "-"
    patch = FancyArrowPatch(
        points[-2],
        points[-1],
        arrowstyle=style,
        color=color,
        lw=width,
        ls=line,
        shrinkA=0,
        shrinkB=0,
        zorder=2,
    )
    ax.add_patch(patch)


def note(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    color: str = SOFT,
    size: float = 8.5,
    ha: str = "center",
    weight: str = "normal",
) -> None:
    """Writes text around (x, y)."""
    ax.text(
        x,
        y,
        text,
        ha=ha,
        va="center_baseline",
        fontsize=size,
        color=color,
        weight=weight,
        zorder=5,
        linespacing=1.3,
    )


def feature_map(ax: Axes, x: float, y: float, text: str, size: float = 7.0) -> None:
    """Draws a feature map as three planes behind each other."""
    for i in (2, 1, 0):
        corner = (x - size / 2 + 1.1 * i, y - size / 2 + 1.1 * i)
        ax.add_patch(
            Rectangle(corner, size, size, facecolor="white", edgecolor=INK, linewidth=1.1, zorder=3)
        )
    note(ax, x + 1.1, y - size / 2 - 2.2, text, INK, 9)


def photo(ax: Axes, x: float, y: float, text: str = "image", size: float = 7.0) -> None:
    """Draws an image: a hill and a sun in a frame."""
    left, low = x - size / 2, y - size / 2
    ax.add_patch(
        Rectangle(
            (left, low), size, size, facecolor="#e0f2fe", edgecolor=INK, linewidth=1.1, zorder=3
        )
    )
    hills = (
        np.array([[0, 0], [0, 0.3], [0.3, 0.6], [0.5, 0.35], [0.7, 0.5], [1, 0.2], [1, 0]]) * size
    )
    ax.fill(left + hills[:, 0], low + hills[:, 1], color="#86b58f", zorder=3.1, lw=0)
    ax.add_patch(
        Circle(
            (left + 0.75 * size, low + 0.75 * size), 0.11 * size, color="#f6ad55", zorder=3.1, lw=0
        )
    )
    ax.add_patch(
        Rectangle((left, low), size, size, fill=False, edgecolor=INK, linewidth=1.1, zorder=3.2)
    )
    note(ax, x, low - 2.0, text, INK, 9)


def switch(ax: Axes, x: float, y: float, closed: bool, color: str) -> None:
    """Draws an electric switch on a line that runs from left to right."""
    for end in (x - 2, x + 2):
        ax.add_patch(
            Circle((end, y), 0.55, facecolor="white", edgecolor=color, linewidth=1.3, zorder=4)
        )
    ax.plot(
        [x - 1.6, x + (1.5 if closed else 1.2)],
        [y + 0.2, y + (0.2 if closed else 2.6)],
        color=color,
        lw=1.8,
        zorder=4,
    )


def dmnn(ax: Axes) -> None:
    """Draws one block of a DMNN for one image: a controller opens and closes its sub-blocks."""
    feature_map(ax, 7, 22, r"$X_{l-1}$")
    arrow(ax, [(13.5, 22), (18, 22)], head=False)
    # controller
    ax.plot([18, 18], [6.5, 41], color=INK, lw=1.3, zorder=2)
    arrow(ax, [(18, 41), (23, 41)])
    box(
        ax,
        36.5,
        41,
        27,
        6.4,
        "controller\npooling, two small dense layers",
        ORANGE,
        ORANGE_FILL,
        size=8.5,
    )
    arrow(ax, [(36.5, 48.6), (36.5, 44.4)], ORANGE)
    note(
        ax,
        38,
        47.4,
        r"state $h_{l-1}$ of the previous block's controller",
        ORANGE,
        ha="left",
        size=8,
    )
    arrow(ax, [(50, 42.3), (93, 42.3)], ORANGE)
    note(ax, 80, 44.4, r"state $h_l$ to the next block", ORANGE, size=8)
    ax.plot([50, 56], [39.7, 39.7], color=ORANGE, lw=1.3, ls=(0, (3, 2)), zorder=2)
    ax.plot([56, 56], [39.7, 33.7], color=ORANGE, lw=1.3, ls=(0, (3, 2)), zorder=2)
    note(ax, 57.3, 38.4, r"gates $s_{l,1}=1,\ s_{l,2}=0$ of this image", ORANGE, ha="left", size=8)
    # sub-blocks
    rows = ((30.0, True, GREEN, GREEN_FILL, "runs"), (18.5, False, GREY, GREY_FILL, "is skipped"))
    for i, (y, is_open, edge, fill, word) in enumerate(rows, 1):
        color = INK if is_open else GREY
        for x, kernel in ((27.5, "1x1"), (36.5, "3x3"), (45.5, "1x1")):
            box(
                ax,
                x,
                y,
                7.2,
                6,
                kernel,
                edge,
                fill,
                dashed=not is_open,
                color=INK if is_open else GREY,
            )
        arrow(ax, [(18, y), (23.6, y)], color, dashed=not is_open)
        for x in (31.1, 40.1):
            arrow(ax, [(x, y), (x + 1.7, y)], color, head=False)
        arrow(ax, [(49.1, y), (54, y)], color, head=False)
        switch(ax, 56, y, is_open, ORANGE)
        arrow(ax, [(58.6, y), (74, y)], color, dashed=not is_open, head=False)
        note(
            ax,
            59,
            y + 2.0,
            f"sub-block {i} {word}",
            edge if is_open else SOFT,
            ha="left",
            size=8,
            weight="bold",
        )
    ax.plot([56, 56], [26.5, 22.5], color=ORANGE, lw=1.3, ls=(0, (3, 2)), zorder=1.5)
    ax.plot([74, 74], [30, 24.6], color=INK, lw=1.3, zorder=2)
    ax.plot([74, 74], [18.5, 19.6], color=GREY, lw=1.3, ls=(0, (3, 2)), zorder=2)
    # shortcut and sum
    arrow(ax, [(18, 6.5), (77, 6.5), (77, 19.9)])
    note(ax, 46, 8.5, "shortcut: always runs", SOFT)
    ax.plot([74, 74], [24.6, 22], color=INK, lw=1.3, zorder=2)
    ax.plot([74, 74], [19.6, 22], color=GREY, lw=1.3, ls=(0, (3, 2)), zorder=1.9)
    arrow(ax, [(74, 22), (75, 22)], head=False)
    ax.add_patch(Circle((77, 22), 2.1, facecolor="white", edgecolor=INK, linewidth=1.3, zorder=3))
    note(ax, 77, 22.5, "+", INK, 13)
    arrow(ax, [(79.1, 22), (87.6, 22)])
    note(ax, 83, 23.8, "ReLU", SOFT, 8)
    feature_map(ax, 91.5, 22, r"$X_l$")
    note(
        ax,
        50,
        2.4,
        r"$X_l = X_{l-1} + \sum_n s_{l,n}\,F_{l,n}(X_{l-1})$   "
        r"with gates $s \in \{0, 1\}$ for each image",
        INK,
        9.5,
    )


def cnsn(ax: Axes) -> None:
    """Draws a base and two sub-models that share its layers behind step-down convolutions."""
    columns = (
        (25.0, "2 conv, 64", "32x32"),
        (38.5, "2 conv, 128", "16x16"),
        (52.0, "3 conv, 256", "8x8"),
        (65.5, "3 conv, 512", "4x4"),
        (79.0, "3 conv, 512", "2x2"),
        (90.0, "dense", ""),
    )
    rows = ((40.0, 0, "base"), (25.0, 1, "sub-model 1"), (10.0, 3, "sub-model 2"))
    for x, _, _ in columns:  # bands that join what shares weights
        lowest = 10.0 if x > 60 else 25.0 if x > 30 else 40.0
        if lowest < 40:
            width = 11.4 if x < 85 else 7.6
            ax.add_patch(
                Rectangle(
                    (x - width / 2, lowest - 4.4),
                    width,
                    40 - lowest + 8.8,
                    facecolor="#eef4fb",
                    lw=0,
                    zorder=0.5,
                )
            )
    for y, first, name in rows:
        photo(ax, 6.5, y, name, 5.6)
        shown = columns[first:]
        for i, (x, text, side) in enumerate(shown):
            width = 10 if text != "dense" else 6.4
            box(ax, x, y, width, 6.2, f"{text}\n{side}".strip(), BLUE, BLUE_FILL, size=7.6)
            if i:
                before, _, _ = shown[i - 1]
                arrow(ax, [(before + 5, y), (x - width / 2, y)])
        start = shown[0][0] - 5
        if first:
            kernel = {1: "2x2, stride 2", 3: "8x8, stride 8"}[first]
            place = {1: 22.0, 3: 46.5}[first]
            box(
                ax,
                place,
                y,
                13.5,
                6.2,
                f"step-down\nconvolution {kernel}".replace(" 2x2", "\n2x2").replace(
                    " 8x8", "\n8x8"
                ),
                ORANGE,
                ORANGE_FILL,
                size=7.3,
            )
            arrow(ax, [(9.8, y), (place - 6.75, y)])
            arrow(ax, [(place + 6.75, y), (start, y)])
        else:
            arrow(ax, [(9.8, y), (start, y)])
        arrow(ax, [(93.2, y), (97.5, y)])
    note(ax, 97.5, 43.4, "logits", SOFT, 8)
    note(ax, 79, 48.3, "what stands in one column is one layer, stored once", BLUE, 8.5)
    note(
        ax,
        46.5,
        2.6,
        "new: only the step-down convolutions (and batch-norm statistics of each model)",
        ORANGE,
        8.5,
    )


def _links(
    ax: Axes,
    left: list[tuple[float, float]],
    right: list[tuple[float, float]],
    color: str,
    width: float,
) -> None:
    """Joins every point on the left with every one on the right, as one path."""
    xs, ys = [], []
    for x0, y0 in left:
        for x1, y1 in right:
            xs += [x0, x1, np.nan]
            ys += [y0, y1, np.nan]
    ax.plot(xs, ys, color=color, lw=width, zorder=1)


def _nodes(
    ax: Axes, points: list[tuple[float, float]], edge: str, fill: str, radius: float = 0.95
) -> None:
    """Draws circles around points, as markers of one path."""
    points_a_unit = 0.98 * 72 * 10 / WIDTH  # of a drawing that is 10 inches wide
    xs, ys = zip(*points, strict=True)
    size = 2 * radius * points_a_unit
    ax.plot(
        xs,
        ys,
        "o",
        ms=size,
        markeredgecolor=edge,
        markerfacecolor=fill,
        markeredgewidth=1.1,
        zorder=3,
    )


def tissue(ax: Axes) -> None:
    """Draws two full layers beside the same widths in stacked units."""
    colours = ((BLUE, BLUE_FILL), (GREEN, GREEN_FILL), (ORANGE, ORANGE_FILL), (PURPLE, PURPLE_FILL))
    outer, inner = np.linspace(39, 12, 8), np.linspace(41, 10, 16)
    full = [[(x, y) for y in ys] for x, ys in ((8, outer), (23, inner), (38, outer))]
    for a, b in zip(full, full[1:], strict=False):
        _links(ax, a, b, "#b6bec9", 0.45)
    for column in full:
        _nodes(ax, column, SOFT, "white", 0.75)
    note(ax, 23, 46.8, "two full layers, 8 - 16 - 8 channels", INK, 9.5, weight="bold")
    note(ax, 23, 4.8, "8 x 16 + 16 x 8 = 256 small kernels, such as 3x3", INK, 9)
    ax.plot([45.5, 45.5], [6, 44], color="#d1d5db", lw=1, zorder=1)
    columns = (53.0, 65.0, 77.0)
    results = []
    for i, (edge, fill) in enumerate(colours):
        middle = 38.0 - 8.35 * i
        small, wide = [middle + 1.5, middle - 1.5], [middle + d for d in (3, 1, -1, -3)]
        unit = [[(x, y) for y in ys] for x, ys in zip(columns, (small, wide, small), strict=True)]
        for a, b in zip(unit, unit[1:], strict=False):
            _links(ax, a, b, edge, 0.9)
        for column in unit:
            _nodes(ax, column, edge, fill, 0.8)
        results += unit[-1]
    note(ax, 65, 46.8, "one stack of 4 units, 2-4-2 each", INK, 9.5, weight="bold")
    note(ax, 65, 4.8, "4 x (2 x 4 + 4 x 2) = 64 small kernels", INK, 9)
    after = [(92, y) for y in np.linspace(35, 16, 5)]
    _links(ax, results, after, "#b6bec9", 0.45)
    _nodes(ax, after, SOFT, "white", 0.75)
    note(ax, 91.5, 41.6, "a full layer\nmixes the units'\nresults", SOFT, 8)
    note(ax, 65, 1.3, "computed as two grouped convolutions of 4 groups", SOFT, 8.5)


def puppet(ax: Axes) -> None:
    """Draws the way from an image's complexity through the ODE to the kernels of a plain CNN."""
    photo(ax, 6.5, 14, "image", 7)
    xs = (37.0, 51.0, 65.0, 79.0)
    arrow(ax, [(6.5, 17.6), (6.5, 33.5)])
    box(ax, 7.5, 37, 13, 6.8, "complexity H\none number", ORANGE, ORANGE_FILL, size=8.5)
    arrow(ax, [(14, 37), (20, 37)], ORANGE)
    note(ax, 7.5, 43.2, "entropy of pixels and\nFourier magnitudes", ORANGE, 7.8)
    ax.add_patch(
        FancyBboxPatch(
            (17.6, 29.4),
            69.4,
            15.0,
            boxstyle="round,pad=0,rounding_size=1.5",
            facecolor="#f6f3fd",
            edgecolor=PURPLE,
            lw=1,
            zorder=0.5,
        )
    )
    note(
        ax,
        52.3,
        47.2,
        r"puppeteer: $dP/dl = G(P)$; one small G has all values that are trained: $C^2 + 15C$",
        PURPLE,
        9,
    )
    box(ax, 23, 37, 6, 6.4, r"$P_0$", PURPLE, "white", size=10)
    note(ax, 23, 31.7, "initial state, from H", PURPLE, 7.6)
    ax.texts[-1].set_ha("left")
    ax.texts[-1].set_x(19)
    before = 23.0
    for i, x in enumerate(xs):
        label = (r"$P_1$", r"$P_2$", r"$P_3$", r"$P_L$")[i]
        arrow(ax, [(before + 3, 37), (x - 3, 37)], PURPLE, dashed=i == 3)
        note(ax, (before + x) / 2, 39.0, r"$+\,G\,\Delta l$" if i < 3 else "...", PURPLE, 7.8)
        box(ax, x, 37, 6, 6.4, label, PURPLE, PURPLE_FILL, size=10)
        arrow(ax, [(x, 33.8), (x, 17.4)], PURPLE)
        before = x
    note(ax, 58, 25.2, "resized to each layer's kernel", PURPLE, 8.5)
    ax.texts[-1].set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    before = 10.0
    for i, x in enumerate(xs):
        arrow(ax, [(before, 14), (x - 5, 14)], dashed=i == 3)
        text = ("conv 1", "conv 2", "conv 3", "conv L")[i]
        box(ax, x, 14, 10, 6.6, text, BLUE, BLUE_FILL, dashed=i in (1, 2), size=9)
        before = x + 5
    arrow(ax, [(84, 14), (91, 14)])
    note(ax, 95, 14, "logits", INK, 9)
    note(
        ax,
        56,
        7.4,
        "puppet: a plain CNN; a simple image skips layers (dashed), in fewer and larger steps",
        BLUE,
        8.8,
    )
    note(
        ax,
        56,
        3.2,
        "images of one complexity level share one network; its kernels are generated once",
        SOFT,
        8.5,
    )


def overview(ax: Axes) -> None:
    """Draws the four ideas in a row, small."""
    captions = (
        ("DMNN", "skips sub-blocks,\nimage by image"),
        ("CNSN", "detaches into smaller\nnetworks, shared weights"),
        ("TissueNet", "small units in place\nof full layers"),
        ("Puppet-CNN", "an equation generates\nthe kernels"),
    )
    for i, (title, caption) in enumerate(captions):
        note(ax, 12.5 + 25 * i, 28.0, title, INK, 12.5, weight="bold")
        note(ax, 12.5 + 25 * i, 3.0, caption, SOFT, 9.5)
        if i:
            ax.plot([25 * i, 25 * i], [3, 27], color="#e5e7eb", lw=1, zorder=0)
    # DMNN
    for y, is_open in ((20.5, True), (12.5, False)):
        color = INK if is_open else GREY
        arrow(ax, [(3.5, y), (6.5, y)], color, dashed=not is_open, head=False)
        edge, fill = (GREEN, GREEN_FILL) if is_open else (GREY, GREY_FILL)
        box(ax, 9.5, y, 6, 4.6, "", edge, fill, dashed=not is_open)
        arrow(ax, [(12.5, y), (14, y)], color, head=False)
        switch(ax, 16.2, y, is_open, ORANGE)
        arrow(ax, [(18.8, y), (20.5, y)], color, dashed=not is_open, head=False)
    ax.plot([1, 3.5], [16.5, 16.5], color=INK, lw=1.3)
    ax.plot([3.5, 3.5], [12.5, 20.5], color=INK, lw=1.3)
    ax.plot([20.5, 20.5], [16.5, 20.5], color=INK, lw=1.3)
    ax.plot([20.5, 20.5], [12.5, 16.5], color=GREY, lw=1.3, ls=(0, (3, 2)))
    arrow(ax, [(20.5, 16.5), (24, 16.5)])
    # CNSN
    for y, first in ((22.5, 0), (16.0, 1), (9.5, 3)):
        for j in range(first, 5):
            box(ax, 31 + 4 * j, y, 3.2, 4.4, "", BLUE, BLUE_FILL)
            if j > first:
                arrow(ax, [(31 + 4 * j - 2.4, y), (31 + 4 * j - 1.6, y)], head=False)
        if first:
            box(ax, 31 + 4 * (first - 1), y, 3.2, 4.4, "", ORANGE, ORANGE_FILL)
            arrow(ax, [(31 + 4 * first - 2.4, y), (31 + 4 * first - 1.6, y)], head=False)
        arrow(ax, [(26.5, y), (29.4 + 4 * max(0, first - 1), y)])
    # TissueNet
    for j, (edge, fill) in enumerate(
        ((BLUE, BLUE_FILL), (GREEN, GREEN_FILL), (ORANGE, ORANGE_FILL))
    ):
        middle = 22.6 - 6.6 * j
        small, wide = [middle + 1.2, middle - 1.2], [middle + d for d in (2.4, 0.8, -0.8, -2.4)]
        unit = [[(x, y) for y in ys] for x, ys in ((56, small), (62.5, wide), (69, small))]
        for a, b in zip(unit, unit[1:], strict=False):
            _links(ax, a, b, edge, 0.8)
        for column in unit:
            _nodes(ax, column, edge, fill, 0.6)
    # Puppet-CNN
    for j in range(4):
        x = 79.5 + 5.6 * j
        box(ax, x, 21, 3.8, 4.4, "", PURPLE, PURPLE_FILL)
        box(ax, x, 10.5, 3.8, 4.4, "", BLUE, BLUE_FILL, dashed=j in (1, 2))
        arrow(ax, [(x, 18.8), (x, 12.9)], PURPLE)
        if j:
            arrow(ax, [(x - 3.7, 21), (x - 1.9, 21)], PURPLE, head=False)
            arrow(ax, [(x - 3.7, 10.5), (x - 1.9, 10.5)], head=False)


FIGURES = {  # name of the file: what draws it, the height of the drawing
    "dmnn": (dmnn, 50.0),
    "cnsn": (cnsn, 50.0),
    "tissue": (tissue, 50.0),
    "puppet": (puppet, 50.0),
    "overview": (overview, 31.0),
}


def canvas(ax: Axes, height: float) -> None:
    """Gives an axes the units of the drawings and takes its frame away."""
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(0, height)
    ax.set_aspect("equal")
    ax.axis("off")


def shorter(match: re.Match) -> str:
    """Rounds all numbers of a match to one digit after the point."""
    return re.sub(r"-?\d+\.\d+", lambda n: f"{float(n[0]):.1f}".rstrip("0").rstrip("."), match[0])


def smaller(svg: str) -> str:
    """Shortens an SVG file of matplotlib's: rounded paths, no metadata, no indentation."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(d|x|y)="[^"]*"|translate\([^)]*\)', shorter, svg)
    svg = re.sub(r'<g id="(text|patch|line2d|axes|figure)_\d+">', "<g>", svg)
    svg = re.sub(r' clip-path="[^"]*"', "", svg)
    lines = (line.strip() for line in svg.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def save(figure: plt.Figure, name: str, png: Path | None) -> None:
    """Writes a figure as SVG beside this script, or as PNG to a folder."""
    if png is None:
        path = Path(__file__).with_name(f"{name}.svg")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        path.write_text(smaller(path.read_text()))
    else:
        path = png / f"{name}.png"
        figure.savefig(path, dpi=110)
    print(f"{path}: {path.stat().st_size:,} bytes")
    plt.close(figure)


def main() -> None:
    """Draws all figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--png", type=Path, help="a folder for PNG copies, instead of the SVG files"
    )
    png = parser.parse_args().png
    if png:
        png.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update(
        {
            "svg.hashsalt": "keras_dynnets",
            "font.family": "DejaVu Sans",
            "mathtext.fontset": "dejavusans",
        }
    )
    for name, (draw, height) in FIGURES.items():
        figure = plt.figure(figsize=(10, height / 10), facecolor="white")
        ax = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        canvas(ax, height)
        draw(ax)
        save(figure, name, png)


if __name__ == "__main__":
    main()
