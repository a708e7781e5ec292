"""The command `export`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_dynnets.cli.console import print_json
from keras_dynnets.cli.models import Name
from keras_dynnets.cli.train import DataDir, Weights, load_with_recipe


def export_network(
    name: Name,
    path: Annotated[Path, typer.Argument(help="The file, or for a SavedModel the folder.")],
    format: Annotated[
        str | None,
        typer.Option(help="Name of a format; default: by the end of the path."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, or int8 (with --calibration).")
    ] = "fp32",
    batch_size: Annotated[int | None, typer.Option(help="1, or leave out for any.")] = None,
    weights: Weights = "default",
    num_classes: Annotated[int | None, typer.Option(help="Of a .weights.h5 file.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the network's family as KEY=VALUE, such as gates=true."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="A data set: 300 of its training images are calibrated and checked on."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Writes a network for another runtime, and checks the file there."""
    options = dict(map(_parsed, option or []))

    from keras_dynnets import zoo
    from keras_dynnets.core.registry import find
    from keras_dynnets.export.api import export_model
    from keras_dynnets.export.formats.base import find_format
    from keras_dynnets.zoo.loading import check_weights

    find(name)
    check_weights(name, weights)
    find_format(format, path)
    images = None
    model = load_with_recipe(name, weights, num_classes)
    if calibration:
        from keras_dynnets.training.data.datasets import load_data

        height, _, channels = model.input_shape[1:]
        data = load_data(calibration, data_dir, image_size=height, channels=channels)
        images = data.train.images[:300]
    labels = zoo.labels(name, weights)
    what = model
    if options:
        from keras_dynnets.core.dynamic import interface

        what = interface(model).deployments(**options)
    print_json(export_model(what, path, format, precision, batch_size, labels, images))


def _parsed(text: str) -> tuple[str, Any]:
    """Gives key and value of KEY=VALUE; the value is read as YAML, and `a,b` as a list."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"an option is KEY=VALUE, such as gates=true, not {text!r}")
    read = yaml.safe_load(value)
    if isinstance(read, str) and "," in read:
        read = [yaml.safe_load(part) for part in read.split(",")]
    return key, read


def add_to(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("export")(export_network)
