"""The command `check`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_dynnets.cli.console import out, print_json
from keras_dynnets.cli.models import AsJson


def check(
    folder: Annotated[Path, typer.Argument(help="A folder with train/CLASS/* or CLASS/*.")],
    seed: Annotated[int, typer.Option(help="The recipe's, which draws held-out images.")] = 0,
    validation: Annotated[int, typer.Option(min=1, help="The recipe's number of images.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Checks a folder of images: files that cannot be read, counts, equal files, imbalance."""
    from keras_dynnets.training.data.checking import check_folder

    report = check_folder(folder, validation, seed)
    if as_json:
        print_json(report)
    else:
        out.print(str(report))
    if report.unreadable:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(check)
