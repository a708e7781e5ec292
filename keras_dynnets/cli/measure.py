"""The commands `bench`, `bench-grouped`, `bench-conditions`, `table` and `demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from keras_dynnets.cli.console import Lines, out, print_json, print_rows, say
from keras_dynnets.cli.models import AsJson, Name


def bench(
    name: Name,
    rates: Annotated[
        list[float] | None,
        typer.Option(help="Shares of gated branches to run; repeat, or list after --rates."),
    ] = None,
    runtimes: Annotated[
        str | None, typer.Option(help="Names of runtimes, with commas between; default: all.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of each runtime.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls for each row.")] = 5,
    against: Annotated[
        str | None, typer.Option(help="Time the network as it is against this other one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Times a network against the plain network that it replaces, in every runtime."""
    from keras_dynnets import studies, zoo  # noqa: F401  registers the networks
    from keras_dynnets.core.registry import find

    entry = find(name)
    chosen = runtimes.split(",") if runtimes else None
    show = (lambda row: None) if as_json else Lines()
    request = studies.BenchRequest(rates, chosen, threads, repeats, show)
    run = studies.study_of(entry.family).bench
    if against or run is None:
        from keras_dynnets.measure.latency import compare

        request.without_rates()
        against = against or entry.rival
        if against is None:
            raise ValueError(
                f"{name} is a plain network; say what to time it against: --against NAME"
            )
        rows = compare(name, against, chosen, threads, 4 * repeats, progress=show)
    else:
        rows = run(name, request)
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])


def bench_grouped() -> None:
    """Times a training step of a grouped convolution, Keras's against the library's."""
    from keras_dynnets.measure.grouped_conv import grouped_conv_factor

    theirs, ours, factor = grouped_conv_factor()
    out.print(
        f"batch 32, 16x16x128, 16 groups: Conv2D {1e3 * theirs:.1f} ms, GroupedConv2D "
        f"{1e3 * ours:.1f} ms a step: {factor:.0f} times"
    )


def bench_conditions(
    runtimes: Annotated[
        str | None, typer.Option(help="Names of formats, with commas between; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Times branches with and without a condition, and says where a condition does not pay."""
    from keras_dynnets.measure.conditions import condition_costs, largest_without_condition

    chosen = runtimes.split(",") if runtimes else None
    rows = condition_costs(chosen, progress=(lambda row: None) if as_json else Lines())
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        out.print(f"MACs up to which a branch runs always: {largest_without_condition(rows)}")


def bench_reader(
    folder: Annotated[Path, typer.Argument(help="A folder with photos.")],
    size: Annotated[int, typer.Option(min=1, help="Height and width to read them in.")] = 224,
    count: Annotated[int, typer.Option(min=1, help="Photos to read at most.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Measures the reading of photos: how many a second, and in how much memory."""
    from keras_dynnets.measure.reading import reading_speed

    rows = reading_speed(folder, size, count, (lambda row: None) if as_json else Lines())
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])


def table(
    family: Annotated[str, typer.Argument(help="A family of networks.")], as_json: AsJson = False
) -> None:
    """Prints a paper's table of parameters and operations, ours beside theirs."""
    from keras_dynnets import families, studies

    known = [f for f in families.NAMES if studies.study_of(f).table]
    make = studies.study_of(family).table
    if make is None:
        raise ValueError(f"there is no table {family!r}; there are {', '.join(known)}")
    made = make()
    if as_json:
        print_json(made)
        return
    out.print(made.title)
    print_rows(made.rows)
    for note in made.notes:
        out.print(note)


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where files and the picture go.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Of training.")] = 4,
) -> None:
    """Trains a network on real digits, exports it three ways and shows what it saves."""
    from keras_dynnets.studies.demo import run

    rows = run(folder, epochs, say)
    print_rows({"": key, **{row["runtime"]: row[key] for row in rows}} for key in list(rows[0])[1:])
    say(f"files and picture: {folder.resolve()}")


def listed_rates(arguments: list[str]) -> list[str]:
    """Gives `--rates 1.0 0.7` as the option parser knows it: `--rates 1.0 --rates 0.7`."""
    listed, inside = [], False
    for argument in arguments:
        number = argument.replace(".", "", 1).isdigit()
        if inside and number and listed[-1] != "--rates":
            listed.append("--rates")
        inside = argument == "--rates" or (inside and number)
        listed.append(argument)
    return listed


def add_to(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(bench)
    app.command("bench-grouped")(bench_grouped)
    app.command("bench-conditions")(bench_conditions)
    app.command("bench-reader")(bench_reader)
    app.command()(table)
    app.command()(demo)
