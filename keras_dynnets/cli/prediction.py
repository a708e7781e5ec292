"""The command `predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_dynnets.cli.console import err, out, print_json
from keras_dynnets.cli.models import AsJson, NameOrRun
from keras_dynnets.cli.train import Weights, image_shape, run_of

BATCH = 32  # photos in memory at a time


def predict(
    name: NameOrRun,
    photos: Annotated[list[Path], typer.Argument(help="Image files.", metavar="PHOTO...")],
    weights: Weights = "default",
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Prints the most likely classes of image files.

    A file that cannot be read is named, and the others are classified; the exit status is then 1.
    """
    from keras_dynnets import zoo

    run_of(name, weights)
    classes = zoo.labels(name, weights)
    if classes is None:
        raise ValueError(
            f"the names of the classes of {name} with weights {weights!r} are not known: give a "
            "run folder, or a network with published weights (keras-dynnets weights list)"
        )
    if missing := [str(path) for path in photos if not path.expanduser().is_file()]:
        raise FileNotFoundError(
            f"no image file {', '.join(missing)}; give files that exist, no folders"
        )

    import keras
    import numpy as np

    model: Any = zoo.load(name, weights)
    shape = image_shape(name, model)
    rows, unread = [], 0
    for start in range(0, len(photos), BATCH):
        read, images = [], []
        for path in photos[start : start + BATCH]:
            try:
                images.append(_read(path.expanduser(), shape))
                read.append(path)
            except ValueError as error:
                err.print(f"error: {error}", style="red")
                unread += 1
        if not read:
            continue
        logits = model.predict(np.stack(images).astype("float32"), verbose=0)
        shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits.astype("float32")))
        for path, row in zip(read, shares, strict=True):
            best = row.argsort()[::-1][:top]
            found = {classes[i]: float(row[i]) for i in best}
            rows.append({"image": str(path), "classes": found})
            if not as_json:
                listed = ", ".join(f"{label} {share:.1%}" for label, share in found.items())
                out.print(f"{path}: {listed}")
    if as_json:
        print_json(rows)
    if unread:
        raise typer.Exit(1)


def _read(path: Path, shape: tuple[int, int, int]) -> Any:
    """Reads an image file as the evaluation does: uint8 (height, width, channels)."""
    from keras_dynnets.core.photos import read_image

    height, width, channels = shape
    return read_image(path, (height, width), channels)


def add_to(app: typer.Typer) -> None:
    """Adds the command of this file."""
    app.command()(predict)
