"""The command line, `keras-dynnets`."""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_dynnets import cli_weights

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
out = Console()

Name = Annotated[str, typer.Argument(help="a model of the zoo (see `list`)")]
DataDir = Annotated[
    str | None,
    typer.Option(help="prepared TFDS folder; images as train/CLASS and test/CLASS; or CIFAR-10 as .npz; default: $TFDS_DATA_DIR"),
]


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="shell-style, such as 'dmnn*'")] = "*",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="only those with published weights")] = False,
):
    """Names of the models."""
    from keras_dynnets import zoo

    for name in zoo.list_models(pattern, pretrained):
        out.print(name, highlight=False)


@app.command()
def info(name: Name):
    """What the zoo knows of a model."""
    from keras_dynnets import zoo

    for key, value in dataclasses.asdict(zoo.info(name)).items():
        text = (
            f"{value:,}"
            if key in ("params", "macs")
            else ", ".join(map(str, value))
            if isinstance(value, tuple)
            else value
        )
        out.print(f"{key:12} {text or '-'}", highlight=False)


def _load(name, weights, num_classes=None, input_shape=None):
    """As `zoo.load`; a file of weights in a run folder is of the options of the run's recipe."""
    from keras_dynnets import zoo

    run = Path(weights).parent / "recipe.json"
    recipe = json.loads(run.read_text()) if weights.endswith(".weights.h5") and run.is_file() else {}
    options = recipe["options"] if recipe.get("entry") == name else {}
    return zoo.load(name, weights, num_classes=num_classes, input_shape=input_shape, **options)


@app.command()
def train(
    name: Name,
    data: Annotated[str, typer.Option(help="data set: digits, a name of TensorFlow Datasets, or of --data-dir's images")] = "cifar10",
    recipe: Annotated[
        str | None, typer.Option(help="recipe file, or the name of one of the project's; default: NAME_DATA")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's")] = None,
    seed: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="run folder; default: runs/NAME-TAG")] = None,
    data_dir: DataDir = None,
):
    """Trains by a recipe; the same command goes on after a stop."""
    from keras_dynnets import zoo
    from keras_dynnets.training import Recipe, find_recipe
    from keras_dynnets.training import train as run

    zoo.registry.find(name)
    chosen = find_recipe(name, data, recipe)
    if (chosen.entry, chosen.data) != (name, data):
        raise ValueError(
            f"recipe {recipe} trains {chosen.entry} on {chosen.data}, not {name} on {data}: "
            f"keras-dynnets train {chosen.entry} --data {chosen.data} --recipe {recipe}"
        )
    instead = {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    chosen = Recipe.model_validate({**chosen.model_dump(), **instead})
    folder = folder or Path("runs") / f"{name}-{chosen.tag}"
    results = run(chosen, folder, data_dir)
    out.print(json.dumps(results, indent=1))
    out.print(f"run folder: {folder}")


@app.command()
def evaluate(
    name: Name,
    data: Annotated[str, typer.Option(help="data set: digits, a name of TensorFlow Datasets, or of --data-dir's images")] = "cifar10",
    weights: Annotated[str, typer.Option(help="a published tag, or a .weights.h5 file, also of a run folder")] = "default",
    plots: Annotated[
        Path | None, typer.Option(help="also draw, in this folder: what the test images cost (DMNN), accuracy against MACs (CNSN), "
            "complexity, kernels and stored bytes (Puppet-CNN)")
    ] = None,
    data_dir: DataDir = None,
):
    """Accuracy and cost on a full test set."""
    from keras_dynnets import profile, zoo
    from keras_dynnets.training import evaluate as run
    from keras_dynnets.training import load_data

    height, _, channels = zoo.registry.find(name).input_shape
    loaded = load_data(data, data_dir, image_size=height, channels=channels)
    test = loaded.test
    if zoo.labels(name, weights) not in (None, loaded.classes):
        raise ValueError(
            f"{name}'s weights {weights!r} tell other classes apart than {data} has; give weights trained on {data}"
        )
    model = _load(name, weights, len(loaded.classes), test.images.shape[1:])
    results = run(model, test)
    out.print(json.dumps(results, indent=1))
    if plots and "sub_models" in results:
        macs = {part: profile.count(model.part(part)).macs for part in model.names}
        models = {part: (value, macs[part], model.place(part)[1]) for part, value in results["sub_models"].items()}
        title = f"{name} on the {results['images']:,} test images of {data}"
        path = profile.accuracy_against_macs(models, plots / "accuracy_against_macs.png", title)
        out.print(f"plot: {path}")
    if plots and zoo.info(name).family == "puppet" and hasattr(model, "puppet"):
        profile.complexity_histogram(model, test.images, plots / "complexity.png")
        profile.simple_and_complex(model, test.images, plots / "simple_and_complex.png")
        profile.kernels_along_ode(model, plots / "kernels.png")
        profile.levels_curve(model, test.images[:500], plots / "levels.png")
        profile.stored_bytes(model, plots / "stored_bytes.png")
        out.print(f"plots: {plots}")
    if plots and zoo.info(name).family == "dmnn":
        measured = profile.measure(model, test.images, batch_size=500)
        profile.macs_histogram(measured, plots / "macs_histogram.png")
        profile.execution_rates(measured, test.labels, loaded.classes, plots / "execution_rates.png")
        profile.easy_and_hard(measured, test.images, test.labels, loaded.classes, plots / "easy_and_hard.png")
        out.print(f"plots: {plots}")


@app.command()
def export(
    name: Name,
    path: Annotated[Path, typer.Argument(help="the file, or for a SavedModel the folder")],
    format: Annotated[str, typer.Option(help="litert, onnx or saved_model")] = "litert",
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 (LiteRT, with --calibration)")] = "fp32",
    batch_size: Annotated[int | None, typer.Option(help="1, or leave out for any")] = None,
    weights: Annotated[str, typer.Option(help="a published tag, or a .weights.h5 file, also of a run folder")] = "default",
    num_classes: Annotated[int | None, typer.Option(help="of a .weights.h5 file")] = None,
    gates: Annotated[bool, typer.Option("--gates", help="give the gates as a second output")] = False,
    calibration: Annotated[
        str | None, typer.Option(help="for int8: a data set; 300 of its training images set the ranges")
    ] = None,
    levels: Annotated[list[int] | None, typer.Option(help="of a Puppet-CNN, repeated: those that the file has")] = None,
    kernels: Annotated[str, typer.Option(help="of a Puppet-CNN: materialised, or generator (ONNX)")] = "materialised",
    data_dir: DataDir = None,
):
    """Writes a model for another runtime, and checks it there."""
    from keras_dynnets import zoo
    from keras_dynnets.export import export_model

    model = _load(name, weights, num_classes)
    images = None
    if calibration:
        from keras_dynnets.training import load_data

        height, _, channels = model.input_shape[1:]
        images = load_data(calibration, data_dir, image_size=height, channels=channels).train.images[:300]
    labels = zoo.labels(name, weights)
    options = {"gates": gates, "labels": labels, "calibration": images, "levels": levels, "kernels": kernels}
    report = export_model(model, path, format, precision, batch_size, **options)
    out.print(json.dumps(dataclasses.asdict(report), indent=1))


@app.command()
def bench(
    name: Name,
    rates: Annotated[list[float], typer.Option(help="shares of sub-blocks to run; repeat, or list after --rates")] = [
        1.0,
        0.7,
        0.5,
        0.3,
    ],  # noqa: B006
    runtimes: Annotated[
        str | None, typer.Option(help="comma-separated: litert,onnx,tensorflow,tensorflow_training; of a Puppet-CNN also tensorflow_per_image,onnx_generator")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="of each runtime")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="timed calls for each gate pattern")] = 5,
    against: Annotated[str | None, typer.Option(help="another model: times NAME as it is against that one")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the rows there")] = None,
):
    """Times a DMNN at exact rates against the same layers without gates, the models that a CNSN detaches against ones
    built alone, a Puppet-CNN against the plain CNN that it is made of, or any model against another."""
    from keras_dynnets import zoo

    chosen = runtimes.split(",") if runtimes else None
    if against:
        rows = _bench_against(name, against, chosen, threads, repeats)
    elif zoo.registry.find(name).family == "cnsn":
        rows = _bench_detached(name, chosen, threads, repeats)
    elif zoo.registry.find(name).family == "puppet":
        rows = _bench_levels(name, chosen, threads, repeats)
    else:
        rows = _bench_rates(name, rates, chosen, threads, repeats)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")


def _lines(layout, *columns):
    """A function that prints the cells of a row; the heading comes before the first one, and not before a refusal."""
    heading = iter([columns])

    def show(*cells):
        for row in (*heading, cells):
            out.print(layout.format(*row), highlight=False, soft_wrap=True)

    return show


def _bench_against(name, against, runtimes, threads, repeats):
    from keras_dynnets.profile import compare

    return compare(name, against, runtimes, threads, 4 * repeats, progress=_show_comparison())


def _bench_levels(name, runtimes, threads, repeats):
    from keras_dynnets.profile import compare_levels

    return compare_levels(name, runtimes, threads, repeats, progress=_show_comparison())


def _show_comparison():
    layout = "{:20} {:>5} {:>10} {:>9} {:>11} {:>6}"
    line = _lines(layout, "runtime", "batch", "MACs share", "ms", "baseline ms", "ratio")
    return lambda row: line(row.runtime, row.batch, f"{row.macs_share:.3f}", row.ms, row.baseline_ms, f"{row.ratio:.3f}")


def _bench_detached(name, runtimes, threads, repeats):
    from keras_dynnets.profile import compare_detached

    line = _lines("{:10} {:19} {:>5} {:>9} {:>9} {:>6}", "model", "runtime", "batch", "ms", "alone ms", "ratio")

    def show(row):
        line(row.name, row.runtime, row.batch, row.ms, row.baseline_ms, f"{row.ratio:.3f}")

    return compare_detached(name, runtimes, threads, 4 * repeats, progress=show)


def _bench_rates(name, rates, runtimes, threads, repeats):
    from keras_dynnets.profile import bench as run

    columns = (
        "runtime",
        "batch",
        "rate",
        "MACs share",
        "ms",
        "reference ms",
        "ratio",
        "over share",
        "largest difference",
    )
    layout = "{:19} {:>5} {:>5} {:>10} {:>9} {:>12} {:>6} {:>10} {:>18}"
    line = _lines(layout, *columns)

    def show(row):
        difference = "-" if row.max_abs_diff is None else f"{row.max_abs_diff:.1e}"
        cells = (
            row.runtime,
            row.batch,
            row.rate,
            f"{row.macs_share:.3f}",
            row.ms,
            row.reference_ms,
            f"{row.ratio:.3f}",
        )
        line(*cells, f"{row.ratio - row.macs_share:+.3f}", difference)

    rows = run(name, rates, runtimes, threads, repeats, progress=show)
    applications = {(r.application, r.runtime, r.batch): r.application_ms for r in rows if r.application}
    for (network, runtime, batch), ms in applications.items():
        out.print(f"keras.applications.{network}, {runtime}, batch {batch}: {ms} ms", highlight=False)
    return rows


@app.command("bench-grouped")
def bench_grouped():
    """Times a training step of a grouped convolution, Keras's against ours, with compile's defaults."""
    from keras_dynnets.profile import grouped_conv_factor

    theirs, ours, factor = grouped_conv_factor()
    figures = f"Conv2D {1e3 * theirs:.1f} ms, GroupedConv2D {1e3 * ours:.1f} ms a step: {factor:.0f} times"
    out.print(f"batch 32, 16x16x128, 16 groups: {figures}", highlight=False, soft_wrap=True)


@app.command()
def table(family: Annotated[str, typer.Argument(help="tissue, cnsn or puppet")]):
    """A paper's table of parameters and operations, ours beside theirs."""
    tables = {"tissue": _tissue_table, "cnsn": _cnsn_table, "puppet": _puppet_table}
    if family not in tables:
        raise ValueError(f"there is no table {family!r}; there are {', '.join(tables)}")
    tables[family]()


def _cnsn_table():
    from keras_dynnets.profile import cnsn_table

    line = _lines("{:5} {:22} {:>12} {:>12} {:>26}", "model", "in the paper's table", "parameters", "MACs", "with all operations, 1e9")
    out.print("CNSN (doi 10.2991/jrnal.k.210521.012), ours / the paper's", soft_wrap=True)
    for row in cnsn_table():
        operations = f"{row.operations / 1e9:.6f} / {row.printed:.3f}"
        line(row.name, row.theirs, f"{row.params:,}", f"{row.macs:,}", operations)
    out.print(
        "All operations: additions of biases, batch norm, ReLU and pooling count too. The paper's text calls the model "
        "without the first two convolutions sub-model0; its table calls it sub-model1.",
        soft_wrap=True,
    )


def _puppet_table():
    from keras_dynnets.profile import puppet_table

    line = _lines("{:>5} {:>17} {:>30} {:>17}", "C", "trainable values", "more with a rank-one start", "megabytes")
    out.print("Puppet-CNN (arXiv 2411.12876), ours / the paper's; C^2 + 15 C float32 values", soft_wrap=True)
    for row in puppet_table():
        line(row.channels, f"{row.params:,}", f"{row.initial_state:,}", f"{4e-6 * row.params:.2f} / {row.printed:.2f}")


def _tissue_table():
    from keras_dynnets.profile import tissue_table
    from keras_dynnets.profile.tables import UNITS

    layout = "{:14} {:23} {:>17} {:>17} {:4} {:>13} {:>13}"
    show = lambda *cells: out.print(layout.format(*cells), highlight=False, soft_wrap=True)  # noqa: E731
    theirs = lambda value: "-" if value is None else f"{value:.2f}"  # noqa: E731
    out.print("TissueNet (arXiv 2205.01508), ours / the paper's; CE and SE by the paper's accuracies", soft_wrap=True)
    show("data", "network", "parameters, 1e6", "FLOPs", "", "CE", "SE")
    for row in tissue_table():
        printed = row.printed
        show(
            row.data,
            printed.entry + "".join(f", {k}={v}" for k, v in printed.options.items() if k != "num_classes"),
            f"{row.params / 1e6:.3f} / {printed.params:.2f}",
            f"{row.flops / UNITS[printed.unit]:.4f} / {printed.flops:.2f}",
            printed.unit,
            f"{row.ce:.2f} / {theirs(printed.ce)}",
            f"{row.se:.2f} / {theirs(printed.se)}",
        )
    out.print(
        "The paper's CE and SE of tissue_vgg19_r have its two accuracies the other way round: 55.65 / 53.54.", soft_wrap=True
    )


app.add_typer(cli_weights.app, name="weights")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="where files and plot go")] = Path("demo"),
    epochs: Annotated[int, typer.Option(min=1)] = 6,
):
    """Fine-tunes dmnn20 on real digits, exports it three ways and shows what it saves."""
    from keras_dynnets.demo import run

    rows = run(folder, epochs, lambda text: out.print(text, highlight=False))
    table = Table(title="dmnn20 on handwritten digits")
    table.add_column("")
    for row in rows:
        table.add_column(row["runtime"], justify="right")
    for key in list(rows[0])[1:]:
        table.add_row(key, *(row[key] for row in rows))
    out.print(table)
    out.print(f"files and plot: {folder.resolve()}")


def main():
    """Runs a command; an error of the user's making is one line, not a trace."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("keras_dynnets").setLevel(logging.INFO)
    try:
        app(args=_listed_rates(sys.argv[1:]))
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)


def _listed_rates(arguments):
    """`--rates 1.0 0.7` as the option parser knows it: `--rates 1.0 --rates 0.7`."""
    listed, inside = [], False
    for argument in arguments:
        number = argument.replace(".", "", 1).isdigit()
        if inside and number and listed[-1] != "--rates":
            listed.append("--rates")
        inside = argument == "--rates" or (inside and number)
        listed.append(argument)
    return listed


if __name__ == "__main__":
    main()
