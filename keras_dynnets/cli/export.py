"""The command `export`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_dynnets.cli.console import print_json
from keras_dynnets.cli.models import NameOrRun
from keras_dynnets.cli.train import DataDir, Weights, run_of


def export_network(
    name: NameOrRun,
    path: Annotated[Path, typer.Argument(help="The file, or for a SavedModel the folder.")],
    format: Annotated[
        str | None,
        typer.Option(help="Name of a format; default: by the end of the path."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, or int8 (of a network of the zoo, with --calibration).")
    ] = "fp32",
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a call; leave out for any number.")
    ] = None,
    weights: Weights = "default",
    num_classes: Annotated[int | None, typer.Option(help="Of a .weights.h5 file.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="A text file with the name of a class a line, in the order of the logits; "
            "default: the names that the run or the published weights know."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the network's family as KEY=VALUE, such as gates=true."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="A data set: 300 of its training images are calibrated and checked on; default "
            "for int8: the run's own."
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Writes a network, or the one of a run, for another runtime, and checks the file there."""
    options = dict(map(_parsed, option or []))

    from keras_dynnets import zoo
    from keras_dynnets.export.api import export_model
    from keras_dynnets.export.formats.base import find_format

    run = run_of(name, weights)
    find_format(format, path)
    images = None
    model = zoo.load(name, weights, num_classes=num_classes)
    if run is not None and (calibration or precision == "int8"):
        from keras_dynnets.training.recorded import run_data

        images = run_data(run, calibration, data_dir).train.images[:300]
    elif calibration:
        from keras_dynnets.training.data.datasets import load_data

        *size, channels = model.input_shape[1:]
        data = load_data(calibration, data_dir, image_size=size, channels=channels)
        images = data.train.images[:300]
    names = labels or _labels(name, weights, num_classes)
    what = model
    if options:
        from keras_dynnets.core.dynamic import interface

        what = interface(model).deployments(**options)
    print_json(export_model(what, path, format, precision, batch_size, names, images))


def _labels(name: str, weights: str, num_classes: int | None) -> tuple[str, ...] | None:
    """Gives the names of the classes; None where a network of the zoo gets a new head."""
    from keras_dynnets import zoo

    labels = zoo.labels(name, weights)
    return labels if labels and num_classes in (None, len(labels)) else None


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
