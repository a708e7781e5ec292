"""The commands `list` and `info`."""

import dataclasses
from typing import Annotated

import typer

from keras_dynnets.cli.console import out, print_json

Name = Annotated[str, typer.Argument(help="A network of the zoo (see `list`).")]
NameOrRun = Annotated[
    str,
    typer.Argument(help="A network of the zoo (see `list`), a run folder, or a .keras file."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_models(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern, such as 'resnet*'.")] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only networks with published weights.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the networks of the zoo."""
    from keras_dynnets import zoo

    names = zoo.list_models(pattern, pretrained)
    if not names:
        which = "network with published weights" if pretrained else "network"
        raise ValueError(f"no {which} has a name like {pattern!r}; `keras-dynnets list` shows all")
    if as_json:
        print_json(names)
        return
    for name in names:
        out.print(name)


def info(name: NameOrRun, as_json: AsJson = False) -> None:
    """Shows what the zoo knows of a network."""
    from keras_dynnets import zoo

    found = dataclasses.asdict(zoo.info(name))
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        if key in ("params", "macs"):
            value = f"{value:,}"
        elif isinstance(value, tuple):
            value = ", ".join(map(str, value))
        out.print(f"{key:12} {value or '-'}")


def add_to(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("list")(list_models)
    app.command()(info)
