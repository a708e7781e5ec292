"""The command line, `keras-dynnets`. Nothing heavy is imported before a command needs it."""

import importlib
import logging
import os
import sys
from typing import Annotated

import typer

from keras_dynnets import __version__
from keras_dynnets.cli import checking, console, export, measure, models, prediction, train, weights

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Dynamic and compact CNNs: list, train, evaluate, export and time them.",
)
for commands in (models, checking, train, prediction, export, measure):
    commands.add_to(app)
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"keras_dynnets {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the log lines of TensorFlow and others.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import", help="Import a module that registers networks or formats of its own."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Dynamic and compact CNNs: list, train, evaluate, export and time them."""
    console.settings.verbose, console.settings.quiet = verbose, quiet
    if modules:
        sys.path.insert(0, os.getcwd())
        for module in modules:
            importlib.import_module(module)


def main() -> None:
    """Runs a command; an error of the user's is one line, a fault of the library a traceback."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("keras_dynnets").setLevel(logging.INFO)
    arguments = measure.listed_rates(sys.argv[1:])
    status = 0
    try:
        if "--verbose" in arguments:
            app(args=arguments)
        else:
            with console.quiet_libraries():
                app(args=arguments)
    except KeyboardInterrupt:
        console.err.print("stopped")
        status = 130
    except Exception as error:
        status = console.report(error)
    sys.exit(status)
