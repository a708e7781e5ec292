"""The command line's `keras-dynnets weights`: the shelf of published weights."""

import functools
import http.server
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="The shelf of published weights.")
out = Console()


def _print(text):
    out.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command("list")
def list_weights():
    """What is on the shelf."""
    from keras_dynnets.zoo.weights import records

    for r in records():
        size = f"{r.params:>12,} params {r.macs_mean:>14,.0f} MACs {r.bytes:>12,} bytes"
        _print(f"{r.entry:24} {r.tag:12} {r.metrics['accuracy']:>7.2%} {size}")


@app.command()
def fetch(names: Annotated[list[str], typer.Argument(help="entries, or sets of weights as ENTRY:TAG", metavar="NAME...")]):
    """Has weights at hand for later, verified; what is in the cache already is not downloaded."""
    from keras_dynnets.zoo.weights import records, verified_file

    listed = records()
    chosen = []
    for name in names:
        entry, _, tag = name.partition(":")
        found = [r for r in listed if r.entry == entry and tag in ("", r.tag)]
        if not found:
            there = ", ".join(f"{r.entry}:{r.tag}" for r in listed)
            raise ValueError(f"no published weights {name!r}; there are {there or 'none'}")
        chosen += found
    for record in chosen:
        _print(str(verified_file(record)))


@app.command()
def verify():
    """Checks length and hash of every published file that is here, on the checkout's shelf and in the cache."""
    from keras_dynnets.zoo import settings
    from keras_dynnets.zoo.fetch import fault
    from keras_dynnets.zoo.weights import SHELF, records

    on_shelf, checked, wrong = not settings.mirror(), 0, 0
    for record in records():
        cached = settings.cache_folder() / record.file
        for path in [SHELF / record.entry / record.file] * on_shelf + [cached] * cached.exists():
            fails = fault(path, record)
            checked, wrong = checked + 1, wrong + bool(fails)
            _print(f"wrong: {path} {fails}" if fails else f"right: {path}")
    _print(f"{checked} files, {wrong} wrong")
    if wrong:
        raise typer.Exit(1)


@app.command()
def cards():
    """Writes what is generated from the index: the cards, the README's table, results.csv."""
    from keras_dynnets.zoo.cards import write_cards

    changed = write_cards(_shelf())
    _print("\n".join(f"written: {path}" for path in changed) or "nothing to change")


@app.command()
def plot(path: Annotated[Path, typer.Argument(help="the PNG file")]):
    """Draws what is on the shelf: accuracy against MACs and against bytes, with the papers' points beside."""
    from keras_dynnets.profile import shelf_picture
    from keras_dynnets.zoo.weights import records

    _print(f"written: {shelf_picture(records(), path)}")


@app.command()
def serve(port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8765):
    """Serves the checkout's shelf to this machine's programs, as a mirror, until Ctrl-C."""
    server = shelf_server(_shelf(), port)
    _print(f"export KERAS_DYNNETS_MIRROR=http://127.0.0.1:{server.server_port}")
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


@app.command("publish")
def publish_weights(
    folder: Annotated[Path, typer.Argument(help="the run folder of a finished training")],
    data_dir: Annotated[str | None, typer.Option(help="as of `train`")] = None,
):
    """Puts a run's weights on the shelf, once their evaluation has repeated."""
    from keras_dynnets.training.publish import publish

    record = publish(folder, data_dir)
    _print(f"{record.file}: accuracy {record.metrics['accuracy']:.2%}")


def shelf_server(folder, port):
    """A web server of a folder, for this machine alone; `serve_forever` starts it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def _shelf():
    from keras_dynnets.zoo.weights import SHELF

    if not (SHELF / "index.json").is_file():
        raise RuntimeError(f"there is no shelf at {SHELF}: this command works in a checkout, which has its folder zoo/")
    return SHELF
