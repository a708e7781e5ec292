"""The commands `keras-dynnets weights`: list, download, check and publish weights."""

import contextlib
import functools
import http.server
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from keras_dynnets.cli.console import err, out, say

if TYPE_CHECKING:
    from keras_dynnets.zoo.weights.records import WeightsRecord

app = typer.Typer(no_args_is_help=True, help="List, download, check and publish weights.")


def _print(text: str, console: Console = out) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command("list")
def list_weights(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the full records as JSON.")
    ] = False,
) -> None:
    """List the published weights: accuracy, parameters, mean MACs per image and file size."""
    from keras_dynnets.zoo.weights.published import records, where_weights_come_from

    listed = records()
    if as_json:
        _print(json.dumps([r.model_dump() for r in listed], indent=1))
        return
    for r in listed:
        size = f"{r.params:>12,} params {r.macs_mean:>14,.0f} MACs {r.bytes:>12,} bytes"
        _print(f"{r.entry:24} {r.tag:18} {r.metrics['accuracy']:>7.2%} {size}")
    if not listed:
        _print(f"no published weights: {where_weights_come_from()}", err)


@app.command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(help="Models, or weights of one as MODEL:TAG.", metavar="NAME..."),
    ],
) -> None:
    """Download weights for later use and print the path of each file.

    Every file is verified. A file that is already in the cache is not downloaded again.
    """
    from keras_dynnets.zoo.weights.published import records, verified_file

    chosen = _chosen(names, records())
    for record in chosen:
        _print(str(verified_file(record)))


def _chosen(names: list[str], listed: list["WeightsRecord"]) -> list["WeightsRecord"]:
    """Returns the records that the names stand for."""
    from keras_dynnets.zoo.weights.published import where_weights_come_from

    chosen = []
    for name in names:
        entry, _, tag = name.partition(":")
        found = [r for r in listed if r.entry == entry and tag in ("", r.tag)]
        if not found:
            known = ", ".join(f"{r.entry}:{r.tag}" for r in listed) or "none"
            raise ValueError(
                f"no published weights {name!r}; there are {known} ({where_weights_come_from()})"
            )
        chosen += found
    return chosen


@app.command()
def verify() -> None:
    """Check size and checksum of every published file on this machine.

    The files are those of the published folder and of the cache. The exit status is 1 if one is
    missing or wrong.
    """
    from keras_dynnets.zoo.weights import settings
    from keras_dynnets.zoo.weights.cache import fault
    from keras_dynnets.zoo.weights.published import file_places, records

    checked = wrong = 0
    for record in records():
        if settings.mirror():
            cached = settings.cache_folder() / record.file
            places = [cached] if cached.exists() else []
        else:
            places = file_places(record)
        for path in places:
            found = fault(path, record)
            checked, wrong = checked + 1, wrong + bool(found)
            _print(f"wrong: {path} {found}" if found else f"right: {path}")
    _print(f"{checked} files, {wrong} wrong")
    if wrong:
        raise typer.Exit(1)


@app.command()
def cards() -> None:
    """Write what is generated from the index: model cards, table of results, results.csv."""
    from keras_dynnets.zoo.weights.cards import write_cards

    changed = write_cards(_checkout())
    _print("\n".join(f"written: {path}" for path in changed) or "nothing to change")


@app.command("evaluate")
def evaluate_published(
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of the data sets, as for `train`.")
    ] = None,
) -> None:
    """Evaluate all published weights again and write what they reach into index and cards."""
    _checkout()
    from keras_dynnets.training.publishing import evaluate_again

    evaluate_again(
        data_dir,
        progress=lambda r: _print(f"{r.entry:24} {r.tag:20} {r.metrics['accuracy']:>7.2%}"),
    )


@app.command()
def table(
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of the data sets, as for `train`.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes over 64 test images.")] = 20,
) -> None:
    """Time published networks beside their plain rivals and write the README's table.

    Run it on a machine that does nothing else.
    """
    from keras_dynnets.studies.published_table import markdown_table, time_published, write_table
    from keras_dynnets.zoo.weights.published import records

    readme = _checkout().parent / "README.md"
    rows = time_published(records(), data_dir, repeats, lambda name: say(f"measuring {name}"))
    write_table(readme, rows)
    _print(markdown_table(rows) + f"written: {readme}")


@app.command()
def plot(path: Annotated[Path, typer.Argument(help="The PNG file to write.")]) -> None:
    """Draw accuracy against MACs and against file size, beside the papers' results."""
    from keras_dynnets.studies.published import published_picture
    from keras_dynnets.zoo.weights.published import records

    _print(f"written: {published_picture(records(), path)}")


@app.command()
def serve(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8765,
) -> None:
    """Serve the published weights as a mirror to programs on this machine, until Ctrl-C."""
    from keras_dynnets.zoo.weights.published import PUBLISHED, published_folder

    folder = published_folder()
    if folder is None:
        raise RuntimeError(
            f"there are no published weights to serve: {PUBLISHED} has no index.json"
        )
    server = published_server(folder, port)
    _print(f"export KERAS_DYNNETS_MIRROR=http://127.0.0.1:{server.server_port}")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


@app.command("publish")
def publish_weights(
    folder: Annotated[Path, typer.Argument(help="The run folder of a finished training.")],
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of the data set, as for `train`.")
    ] = None,
) -> None:
    """Publish the weights of a training run, once its evaluation has given the same results."""
    _checkout()
    from keras_dynnets.training.publishing import publish

    record = publish(folder, data_dir)
    _print(f"{record.file}: accuracy {record.metrics['accuracy']:.2%}")


def published_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Returns a web server of a folder, for programs on this machine only.

    Args:
        folder: the published folder.
        port: port to listen on; 0 takes a free one, which the server then has as `server_port`.

    Returns:
        The server. Its method `serve_forever` starts it.
    """
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def _checkout() -> Path:
    """Returns the published folder of the checkout; an installed package must not be changed."""
    from keras_dynnets.zoo.weights.published import PACKAGED, PUBLISHED, published_folder

    if published_folder() is None or PUBLISHED == PACKAGED:
        raise RuntimeError(
            "this command works in a checkout of the repository, which has the folder zoo/ with "
            f"index.json; keras_dynnets runs from {Path(__file__).parents[1]}"
        )
    return PUBLISHED
