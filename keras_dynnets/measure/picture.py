"""How every picture of the library looks and is written: a PNG file at the width of a README."""

import os
import uuid
from pathlib import Path

WIDTH = 8.5  # inches; at 200 dots an inch twice the pixels of a README's column
BLUE, GREY, RED = "#2f6ea5", "#5f6368", "#b3402e"
STYLE = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
}


def write_picture(draw, path):
    """Has `draw` fill a figure and puts it at `path` in one step: nobody ever sees half a file."""
    import matplotlib
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(
            f"pictures are PNG files: give a path that ends in .png, not {str(path)!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with matplotlib.rc_context(STYLE):
            figure = Figure(layout="constrained")  # not pyplot's: no global state, no display
            draw(figure)
            figure.savefig(partial, dpi=200, format="png")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
