"""The command `predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_dynnets.cli.console import out, print_json
from keras_dynnets.cli.models import AsJson, NameOrRun
from keras_dynnets.cli.train import Weights, run_of


def predict(
    name: NameOrRun,
    photos: Annotated[list[Path], typer.Argument(help="Image files.", metavar="PHOTO...")],
    weights: Weights = "default",
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Prints the most likely classes of image files."""
    from keras_dynnets import zoo

    run_of(name, weights)
    classes = zoo.labels(name, weights)
    if classes is None:
        raise ValueError(
            f"the names of the classes of {name} with weights {weights!r} are not known: give a "
            "run folder, or a network with published weights (keras-dynnets weights list)"
        )
    if missing := [str(path) for path in photos if not path.expanduser().is_file()]:
        raise FileNotFoundError(f"no image file {', '.join(missing)}; give files that exist")

    import keras

    model: Any = zoo.load(name, weights)
    images = _read([path.expanduser() for path in photos], model.input_shape[1:])
    logits = model.predict(images, verbose=0)
    shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits.astype("float32")))
    rows = []
    for path, row in zip(photos, shares, strict=True):
        best = row.argsort()[::-1][:top]
        rows.append({"image": str(path), "classes": {classes[i]: float(row[i]) for i in best}})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        found = ", ".join(f"{label} {share:.1%}" for label, share in row["classes"].items())
        out.print(f"{row['image']}: {found}")


def _read(paths: list[Path], shape: tuple[int, int, int]) -> Any:
    """Reads image files as the evaluation does: float32 (n, height, width, channels)."""
    from keras_dynnets.training.data.image_files import ImageFiles

    height, width, channels = shape
    if height != width:
        raise ValueError(f"image files are read as squares, and this network takes {shape}")
    return ImageFiles(paths, height, channels)[:].astype("float32")


def add_to(app: typer.Typer) -> None:
    """Adds the command of this file."""
    app.command()(predict)
