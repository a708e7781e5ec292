"""CNSN: its table of operations, and times of its detached models."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_dynnets import zoo
from keras_dynnets.core import cost
from keras_dynnets.core.arguments import whole_number
from keras_dynnets.core.deployable import with_own_weights
from keras_dynnets.families.cnsn.model import CNSN
from keras_dynnets.measure.counting import count
from keras_dynnets.measure.latency import (
    TRAINING,
    Comparison,
    check_runtimes,
    compare_models,
    default_runtimes,
    set_tensorflow_threads,
)
from keras_dynnets.measure.plots import accuracy_against_macs
from keras_dynnets.studies import BenchRequest, Point, Study, Table


@dataclass(frozen=True)
class Detached:
    """A row of the table of CNSN: a model with our counts and with the paper's.

    Attributes:
        name: "base", "sub1" or "sub2".
        theirs: name of the model in the paper's table.
        params: number of trainable values.
        macs: MACs for one image.
        operations: operations for one image in the paper's convention (see
            `cost.call_operations`).
        printed: the same as the paper prints it, in 1e9.
        accuracy: top-1 accuracy on CIFAR-10 in the paper, in %.
    """

    name: str
    theirs: str
    params: int
    macs: int
    operations: int
    printed: float
    accuracy: float


# By the text the first sub-model lacks two convolutions and the second seven; the table has their
# names the other way round.
PRINTED = {
    "base": ("base-model", 0.314, 92.67),
    "sub1": ("sub-model1", 0.275, 91.15),
    "sub2": ("sub-model0", 0.124, 77.38),
}


def cnsn_table(build: Callable[..., Any] = zoo.load) -> list[Detached]:
    """Counts the operations of the models in the table of CNSN.

    Args:
        build: called as `build(name, weights=None)`; gives the network of that name.

    Returns:
        A list of `Detached`, a row for each model.

    Example:
        >>> [row.macs for row in profile.cnsn_table()]
        [313201664, 273880064, 123474944]

    Reference: Fuengfusin and Tamukoh, JRNAL 8(1), 2021, doi 10.2991/jrnal.k.210521.012, table 1.
    """
    model = build("cnsn_vgg16", weights=None)
    rows = []
    for name, (theirs, printed, accuracy) in PRINTED.items():
        part = model.part(name)
        counted = count(part)
        operations = sum(map(cost.call_operations, cost.calls(part)))
        rows.append(
            Detached(name, theirs, counted.params, counted.macs, operations, printed, accuracy)
        )
    return rows


def table() -> Table:
    """Gives the table of the command line."""
    rows = [
        {
            "model": row.name,
            "in the paper's table": row.theirs,
            "parameters": f"{row.params:,}",
            "MACs": f"{row.macs:,}",
            "with all operations, 1e9": f"{row.operations / 1e9:.6f} / {row.printed:.3f}",
        }
        for row in cnsn_table()
    ]
    return Table(
        "CNSN (doi 10.2991/jrnal.k.210521.012), ours / the paper's",
        rows,
        (
            "All operations: additions of biases, batch norm, ReLU and pooling count too.",
            "The paper's text calls the model without the first two convolutions sub-model0; its "
            "table calls it sub-model1.",
        ),
    )


def compare_detached(
    name: str,
    runtimes: Collection[str] | None = None,
    threads: int = 1,
    repeats: int = 20,
    seed: int = 0,
    progress: Callable[[Comparison], Any] = lambda row: None,
) -> list[Comparison]:
    """Times every model that a CNSN detaches against a copy with weights of its own.

    The calls of the two are made in turn. In "tensorflow_training" there is one more row,
    "whole": a training step of the CNSN against the sum of the steps of all its models.

    Args:
        name: name of a CNSN in the zoo.
        runtimes: some of "tensorflow", "tensorflow_training" and the names of formats; None for
            all.
        threads: number of threads of each runtime. TensorFlow takes it only before its first
            computation.
        repeats: number of timed calls of each model.
        seed: seed of weights and images.
        progress: called with every `Comparison` as it comes.

    Returns:
        A list of `Comparison`, times in milliseconds.

    Raises:
        ValueError: a name or runtime is unknown.

    Example:
        >>> rows = profile.compare_detached("cnsn_vgg16_half", ["tensorflow"])
        >>> [row.ratio for row in rows]
    """
    threads, repeats = whole_number("threads", threads), whole_number("repeats", repeats)
    seed = whole_number("seed", seed, 0)
    runtimes = check_runtimes(runtimes, default_runtimes())
    set_tensorflow_threads(threads)
    keras.utils.set_random_seed(seed)
    model = zoo.load(name, weights=None)
    rows = []
    for runtime in runtimes:
        for part in model.names:
            alone = keras.models.clone_model(with_own_weights(model.part(part)))
            pair = [model.part(part), alone]
            rows.append(compare_models(part, runtime, pair, threads, repeats, seed))
            progress(rows[-1])
        if runtime == TRAINING:
            networks = [model, *(model.part(part) for part in model.names)]
            rows.append(compare_models("whole", runtime, networks, threads, repeats, seed))
            progress(rows[-1])
    return rows


def _bench(name: str, request: BenchRequest) -> list[Comparison]:
    """Runs the benchmark of the command line."""
    request = request.without_rates()
    return compare_detached(
        name,
        request.runtimes,
        request.threads,
        4 * request.repeats,
        progress=request.progress,
    )


def _draw(model: CNSN, data: Any, folder: Path) -> list[Path]:
    """Draws the test accuracy of every model against its MACs."""
    from keras_dynnets.training.evaluation import evaluate

    points = {}
    for name in model.names:
        part = model.part(name)
        width = model.place(name)[1]
        points[name] = (evaluate(part, data.test)["accuracy"], count(part).macs, width)
    title = f"{model.name} on the {len(data.test):,} test images of {data.name}"
    return [accuracy_against_macs(points, folder / "accuracy_against_macs.png", title)]


STUDY = Study(
    table=table,
    bench=_bench,
    draw=_draw,
    points={
        "cifar10": (
            Point("CNSN base", 0.9267, 0.314e9, 4 * 14.78e6),
            Point("CNSN A", 0.9115, 0.275e9, None),
            Point("CNSN B", 0.7738, 0.124e9, None),
        )
    },
)
