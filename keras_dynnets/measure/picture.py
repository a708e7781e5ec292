"""How the pictures of the library look, and how they are written: PNG files for a README."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTH = 8.5  # inches; at 200 dots an inch twice as many pixels as the column of a README has
BLUE, GREY, RED = "#2f6ea5", "#5f6368", "#b3402e"
STYLE: dict[Any, Any] = {  # settings of matplotlib
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


def write_picture(draw: Callable[[Any], None], path: str | os.PathLike) -> Path:
    """Writes a figure to a PNG file.

    The file appears at its path when it is complete, so that nobody reads half a file. Neither
    the user's settings of matplotlib nor the figures of `pyplot` change.

    Args:
        draw: a function that fills a `matplotlib.figure.Figure` of constrained layout.
        path: path of the file, which ends in ".png". Its folder is made if there is none, and an
            older file is replaced.

    Returns:
        The path.

    Raises:
        ValueError: `path` does not end in ".png".
        OSError: the file cannot be written.

    Example:
        >>> write_picture(lambda figure: figure.subplots().plot([1, 2]), "line.png")
        PosixPath('line.png')
    """
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
            figure = Figure(layout="constrained")  # pyplot would need a display and keep it
            draw(figure)
            figure.savefig(partial, dpi=200, format="png")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
