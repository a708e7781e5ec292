"""The commands `train` and `evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_dynnets.cli.console import err, out, print_json, progress_bar, say, settings
from keras_dynnets.cli.models import AsJson, Name

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
    str, typer.Option(help="A published tag, or a .weights.h5 file, also of a run folder.")
]


def load_with_recipe(
    name: str, weights: str, num_classes: int | None = None, input_shape: Any = None
) -> Any:
    """Loads as `zoo.load`; weights in a run folder get the options of the run's recipe."""
    from keras_dynnets import zoo

    run = Path(weights).parent / "recipe.json"
    of_a_run = weights.endswith(".weights.h5") and run.is_file()
    recipe = json.loads(run.read_text()) if of_a_run else {}
    options = recipe["options"] if recipe.get("entry") == name else {}
    return zoo.load(name, weights, num_classes=num_classes, input_shape=input_shape, **options)


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
    given = {"epochs": epochs, "seed": seed}
    instead = {key: value for key, value in given.items() if value is not None}
    chosen = Recipe.model_validate({**chosen.model_dump(), **instead})
    folder = folder or Path("runs") / f"{name}-{chosen.tag}"
    say(f"run folder: {folder}")

    from keras_dynnets.training.run import train as run

    callbacks, verbose = [], 0 if settings.quiet else 2
    if err.is_terminal and not settings.quiet:
        from keras_dynnets.cli.progress import EpochProgress

        callbacks, verbose = [EpochProgress(chosen.epochs)], 0
    results = run(chosen, folder, data_dir, verbose=verbose, callbacks=callbacks)
    _print_results(results, as_json)


def evaluate(
    name: Name,
    data: DataSet = "cifar10",
    weights: Weights = "default",
    plots: Annotated[
        Path | None, typer.Option(help="Also draw the pictures of the network's family here.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measures accuracy and cost on a full test set."""
    from keras_dynnets import studies, zoo
    from keras_dynnets.core.registry import find
    from keras_dynnets.zoo.loading import check_weights

    entry = find(name)
    check_weights(name, weights)
    known = zoo.labels(name, weights)

    from keras_dynnets.training.data.datasets import load_data
    from keras_dynnets.training.evaluation import evaluate as run

    height, _, channels = entry.input_shape
    loaded = load_data(data, data_dir, image_size=height, channels=channels)
    if known not in (None, loaded.classes):
        raise ValueError(
            f"{name}'s weights {weights!r} tell other classes apart than {data} has; give weights "
            f"trained on {data}"
        )
    model = load_with_recipe(name, weights, len(loaded.classes), loaded.test.images.shape[1:])
    with progress_bar(f"{name} on {data}", len(loaded.test)) as progress:
        results = run(model, loaded.test, progress=progress)
    _print_results(results, as_json)
    if plots:
        draw = studies.study_of(entry.family).draw
        if draw is None:
            raise ValueError(f"there are no pictures for networks like {name} ({entry.family})")
        for path in draw(model, loaded, plots):
            say(f"picture: {path}")


def _print_results(results: dict, as_json: bool) -> None:
    if as_json:
        print_json(results)
    else:
        out.print(json.dumps(results, indent=1))


def add_to(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("train")(train_network)
    app.command()(evaluate)
