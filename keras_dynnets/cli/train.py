"""The commands `train` and `evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_dynnets.cli.console import err, out, print_json, progress_bar, say, settings
from keras_dynnets.cli.models import AsJson, Name, NameOrRun

if TYPE_CHECKING:
    from keras_dynnets.training.data.checking import FolderReport
    from keras_dynnets.training.data.datasets import Data
    from keras_dynnets.zoo import RunRecord

SHOWN = 20  # classes up to which a confusion matrix is printed for a reader

DataSet = Annotated[
    str,
    typer.Option(help="digits, a name of TensorFlow Datasets, or any name with --data-dir."),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        help="A folder of images (train/CLASS, test/CLASS), a prepared TFDS folder, or CIFAR-10 "
        "as .npz; default: $TFDS_DATA_DIR."
    ),
]
Weights = Annotated[
    str,
    typer.Option(help="A published tag, or a .weights.h5 file; a run folder has its own weights."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Go on without image files that cannot be read.")
]


def train_network(
    name: Name,
    data: DataSet = "cifar10",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe file, or the name of one of the package's; default: NAME_DATA."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="The run folder; default: runs/NAME-TAG.")
    ] = None,
    data_dir: DataDir = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="balanced: the images of every class together count alike."),
    ] = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Trains by a recipe; the same command goes on after a stop."""
    from keras_dynnets import zoo  # noqa: F401  registers the networks
    from keras_dynnets.core.registry import find
    from keras_dynnets.training.recipe import Recipe, find_recipe

    find(name)
    chosen = find_recipe(name, data, recipe)
    if (chosen.entry, chosen.data) != (name, data):
        raise ValueError(
            f"recipe {recipe} trains {chosen.entry} on {chosen.data}, not {name} on {data}: "
            f"keras-dynnets train {chosen.entry} --data {chosen.data} --recipe {recipe}"
        )
    if class_weights not in (None, "balanced"):
        raise ValueError(
            f"--class-weights is balanced, not {class_weights!r}; weights by the names of classes "
            "stand in a recipe file: class_weights: {NAME: 2.0}"
        )
    given = {"epochs": epochs, "seed": seed, "class_weights": class_weights}
    instead = {key: value for key, value in given.items() if value is not None}
    chosen = Recipe.model_validate({**chosen.model_dump(), **instead})
    folder = folder or Path("runs") / f"{name}-{chosen.tag}"
    say(f"run folder: {folder}")

    from keras_dynnets.training.run import train as run

    callbacks, verbose = [], 0 if settings.quiet else 2
    if err.is_terminal and not settings.quiet:
        from keras_dynnets.cli.progress import EpochProgress

        callbacks, verbose = [EpochProgress(chosen.epochs)], 0
    results = run(
        chosen,
        folder,
        data_dir,
        verbose=verbose,
        callbacks=callbacks,
        skip_bad=skip_bad,
        show=_show_report,
    )
    _print_results(results, as_json)


def evaluate(
    name: NameOrRun,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, a name of TensorFlow Datasets, or any name with --data-dir; default: "
            "the run's own, or cifar10."
        ),
    ] = None,
    weights: Weights = "default",
    plots: Annotated[
        Path | None,
        typer.Option(help="Also draw the confusion matrix and the pictures of the family here."),
    ] = None,
    data_dir: DataDir = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Measures accuracy and cost on test images, of a run on the images that it held out."""
    from keras_dynnets import studies, zoo
    from keras_dynnets.core.registry import find
    from keras_dynnets.zoo.model_files import model_file

    run = run_of(name, weights)
    saved = model_file(name) is not None
    entry = None if saved and run is None else find(run.entry if run else name)

    from keras_dynnets.training.evaluation import evaluate as run_evaluation
    from keras_dynnets.training.recorded import run_data

    if saved:
        model = zoo.load(name)
        if run is not None:
            loaded = run_data(run, data, data_dir)
        else:
            loaded = _data_for_model(name, model, data, data_dir)
    else:
        shape = None
        if run is not None:
            loaded = run_data(run, data, data_dir)
        else:
            loaded = _data_for(name, weights, data or _usual(data_dir), data_dir)
            shape = loaded.test.images.shape[1:]
        count = None if zoo.labels(name, weights) else len(loaded.classes)
        model = zoo.load(name, weights, num_classes=count, input_shape=shape)
    if loaded.folder is not None:
        loaded = _checked_photos(loaded, skip_bad)
    with progress_bar(f"{name} on {loaded.name}", len(loaded.test)) as progress:
        results = run_evaluation(model, loaded.test, progress=progress, classes=loaded.classes)
    _print_results(results, as_json)
    if plots:
        from keras_dynnets.measure.by_class import confusion_picture

        matrix = results["confusion"]
        pictures = [confusion_picture(matrix, loaded.classes, plots / "confusion.png")]
        if entry and (draw := studies.study_of(entry.family).draw):
            pictures += draw(model, loaded, plots)
        for path in pictures:
            say(f"picture: {path}")


def run_of(name: str, weights: str) -> "RunRecord | None":
    """Gives the run that a command is about; None for a network of the zoo.

    Weights that cannot be loaded are refused here, before anything else is done.

    Args:
        name: name of a network, or path of a run folder or of a `.keras` file.
        weights: the weights that the user asks for; the weights file of a run stands for the run.
    """
    from keras_dynnets.zoo.loading import check_weights
    from keras_dynnets.zoo.model_files import model_file, run_in_file
    from keras_dynnets.zoo.run_folders import read_run, run_folder, run_of_weights

    check_weights(name, weights)
    if file := model_file(name):
        return run_in_file(file)
    if folder := run_folder(name):
        return read_run(folder)
    run = run_of_weights(weights)
    return run if run is not None and run.entry == name else None


def image_shape(name: str, model: Any) -> tuple[int, int, int]:
    """Gives the shape (height, width, channels) of the images that a saved model takes.

    Args:
        name: what the user calls the model, for messages.
        model: the model.

    Raises:
        ValueError: it takes something else, or images of any size.
    """
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            f"{name} takes inputs of shape {shape}; give a network that takes images (batch, "
            "height, width, channels)"
        )
    if None in shape[1:]:
        raise ValueError(
            f"{name} takes images of any size, {shape[1:]}, and files are read in one size; give "
            "a network that was built on a fixed one, such as keras.Input((224, 224, 3))"
        )
    return shape[1:]


def _data_for(name: str, weights: str, data: str, data_dir: str | None) -> "Data":
    """Loads the data set on which a network of the zoo is evaluated."""
    from keras_dynnets.core.registry import find
    from keras_dynnets.training.data.datasets import load_data
    from keras_dynnets.training.recorded import check_fits
    from keras_dynnets.zoo.weights.published import records

    published = [r for r in records(name) if weights in ("default", r.tag)]
    record = published[0] if published else None
    height, width, channels = (record or find(name)).input_shape
    # The seed of the training draws the test images of a data set that has none of its own.
    own = record is not None and record.recipe.get("data") == data
    seed = record.recipe.get("seed", 0) if record is not None and own else 0
    loaded = load_data(
        data,
        data_dir,
        seed=seed,
        image_size=(height, width),
        channels=channels,
        classes=record.classes if record is not None else None,
        flat="test" if record is not None else "train",
    )
    if record is not None:
        source = f"{data} ({data_dir})" if data_dir else data
        check_fits(f"{name}:{record.tag}", record.classes, record.input_shape, source, loaded)
    return loaded


def _usual(data_dir: str | None) -> str:
    """Gives the name of the data set where the user gives none.

    A folder with `CLASS/*` alone is one of images only under a name of its own, see `load_data`.
    """
    from keras_dynnets.training.data.layout import is_photo_folder

    place = Path(data_dir or "").expanduser()
    flat = data_dir and is_photo_folder(place) and not is_photo_folder(place, parts_only=True)
    return "photos" if flat else "cifar10"


def _checked_photos(data: "Data", skip_bad: bool) -> "Data":
    """Says which photos a network is evaluated on, and refuses or leaves out unreadable ones."""
    from keras_dynnets.training.data.checking import left_out, readable_test_images, sources

    assert data.folder is not None
    say(f"{len(data.test)} test images of {data.folder.root}: {sources(data)['test']}")
    if files := left_out(data):
        say(f"left out: {files}")
    readable = readable_test_images(data, skip_bad)
    if skipped := len(data.test) - len(readable.test):
        say(f"going on without {skipped} of them that cannot be read (--skip-bad)")
    return readable


def _show_report(report: "FolderReport") -> None:
    say(str(report))
    if report.unreadable:
        say("going on without the files that cannot be read (--skip-bad)")


def _data_for_model(name: str, model: Any, data: str | None, data_dir: str | None) -> "Data":
    """Loads the data set on which a saved model is evaluated, and refuses one of other classes."""
    from keras_dynnets.core.class_names import names_of_classes
    from keras_dynnets.core.dynamic import interface
    from keras_dynnets.training.data.datasets import load_data
    from keras_dynnets.training.recorded import check_fits

    if data is None:
        raise ValueError(f"{name} does not say what it was trained on; name a data set with --data")
    height, width, channels = shape = image_shape(name, model)
    known = names_of_classes(model)
    loaded = load_data(
        data,
        data_dir,
        image_size=(height, width),
        channels=channels,
        classes=known,
        flat="test",
    )
    source = f"{data} ({data_dir})" if data_dir else data
    logits = interface(model).logits_tensor.shape[-1]
    if logits != len(loaded.classes):
        raise ValueError(f"{name} has {logits} logits, and {source} {len(loaded.classes)} classes")
    check_fits(name, known or loaded.classes, shape, source, loaded)
    return loaded


def _print_results(results: dict, as_json: bool) -> None:
    if as_json:
        print_json(results)
    else:
        out.print(_short(results))


def _short(value: Any, indent: str = "") -> str:
    """Gives JSON with lists and figures of a class in one line, without a large matrix."""
    inner = indent + " "
    if isinstance(value, dict) and (not indent or any(map(_nested, value.values()))):
        rows = [
            f"{inner}{json.dumps(str(key))}: {_short(item, inner)}"
            for key, item in value.items()
            if key != "confusion" or len(item) <= SHOWN
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(map(_nested, value)):
        return "[\n" + ",\n".join(inner + _short(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value)


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, list))


def add_to(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("train")(train_network)
    app.command()(evaluate)
