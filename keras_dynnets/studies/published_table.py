"""The README's table: published networks beside the plain networks that they compete with."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.core.dynamic import interface
from keras_dynnets.core.registry import find
from keras_dynnets.export.formats.base import WriteJob, formats
from keras_dynnets.measure.counting import count
from keras_dynnets.measure.latency import in_turn, set_tensorflow_threads
from keras_dynnets.training.data.datasets import load_data
from keras_dynnets.zoo.weights.records import WeightsRecord

TENSORFLOW_BATCH = 64  # images, of which the other runtimes take one a call
BEGIN = "<!-- table: accuracy, cost and time against the plain network -->"
END = "<!-- end of table -->"


@dataclass(frozen=True)
class Timed:
    """Published weights beside the plain network that they compete with.

    Attributes:
        name: of the network, or of one of the networks that it contains.
        data: name of the data set.
        accuracy: top-1 on its test images, in [0, 1].
        params: values that training learns.
        macs: MACs for one image, the mean over the test images.
        rival: name of the plain network.
        rival_accuracy: of the rival's published weights, in [0, 1]; None where none are published.
        rival_macs: MACs of the rival for one image.
        ms: milliseconds for one image of the network and of the rival, by runtime.
    """

    name: str
    data: str
    accuracy: float
    params: int
    macs: float
    rival: str
    rival_accuracy: float | None
    rival_macs: int
    ms: dict[str, tuple[float, float]]


def time_published(
    records: Sequence[WeightsRecord],
    data_dir: str | None = None,
    repeats: int = 20,
    progress: Callable[[str], Any] = lambda line: None,
) -> list[Timed]:
    """Times every published network in turn with the plain network that it competes with.

    One thread; LiteRT and ONNX Runtime with one image a call, TensorFlow with 64. The images are
    test images, since the work of some networks depends on them. The rival has random weights,
    which do not change its time.

    Args:
        records: published weights; those of plain networks are rivals and get no row.
        data_dir: see `load_data`.
        repeats: timed passes over the images.
        progress: called with the name of each network as it is measured.

    Returns:
        A `Timed` for each network, and for each that it contains.
    """
    set_tensorflow_threads(1)
    known = {(r.entry, r.recipe["data"]): r.metrics["accuracy"] for r in records}
    rows, images = [], {}
    for record in records:
        rival, data = find(record.entry).rival, record.recipe["data"]
        if rival is None:
            continue
        progress(f"{record.entry}, {record.tag}")
        if data not in images:
            size, _, channels = record.input_shape
            loaded = load_data(data, data_dir, image_size=size, channels=channels)
            images[data] = np.asarray(loaded.test.images[:TENSORFLOW_BATCH], "float32")
        model = zoo.load(record.entry, record.tag)
        plain = zoo.load(rival, None, len(record.classes), record.input_shape)
        for name, accuracy, macs, network in _networks(record, model):
            rows.append(
                Timed(
                    name,
                    data,
                    accuracy,
                    count(network).params,
                    macs,
                    rival,
                    known.get((rival, data)),
                    count(plain).macs,
                    _milliseconds(network, plain, images[data], repeats),
                )
            )
    return rows


def _networks(record: WeightsRecord, model: Any) -> Iterator[tuple[str, float, float, Any]]:
    """Gives name, accuracy, mean MACs and model of what a record holds."""
    parts = record.metrics.get("sub_models", {})
    title = record.entry if record.tag == record.recipe["data"] else f"{record.entry}:{record.tag}"
    if not parts:
        yield title, record.metrics["accuracy"], record.macs_mean, model
        return
    for part, accuracy in parts.items():
        network = interface(model).part(part)
        yield f"{title}, {part}", accuracy, count(network).macs, network


def _milliseconds(
    model: Any, plain: keras.Model, images: np.ndarray, repeats: int
) -> dict[str, tuple[float, float]]:
    """Gives milliseconds for one image of both, by runtime, from calls made in turn."""
    network = interface(model).deployments().main
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in formats():
            if not target.own_runtime:
                continue
            runs = []
            for i, one in enumerate((network, plain)):
                path = Path(folder) / f"{i}{target.suffix}"
                target.write(one, path, WriteJob(1))
                runs.append(target.runner(path, 1))
            calls = [lambda x, run=run: [run(images=image[None]) for image in x] for run in runs]
            found[target.runtime] = _per_image(calls, images, repeats)
        calls = [
            lambda x, one=one: one.predict(x, batch_size=len(x), verbose=0)
            for one in (model, plain)
        ]
        found["TensorFlow"] = _per_image(calls, images, repeats)
    return found


def _per_image(calls: Sequence[Callable], images: np.ndarray, repeats: int) -> tuple[float, float]:
    own, base = 1e3 * np.median(in_turn(calls, images, repeats), axis=0) / len(images)
    return float(own), float(base)


def markdown_table(rows: Sequence[Timed]) -> str:
    """Gives the README's table: accuracy, size, work and time beside the plain network's."""
    runtimes = list(rows[0].ms)
    titles = [
        "network",
        "data",
        "top-1",
        "params",
        "MACs, mean",
        "plain network",
        *(f"{runtime}, ms: own / plain" for runtime in runtimes),
    ]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        plain = "not trained" if row.rival_accuracy is None else f"{row.rival_accuracy:.2%}"
        cells = [
            f"`{row.name}`",
            row.data,
            f"{row.accuracy:.2%}",
            f"{row.params:,}",
            f"{row.macs / 1e6:.3g} M",
            f"`{row.rival}`, {plain}, {row.rival_macs / 1e6:.3g} M",
            *(f"{own:.3g} / {base:.3g}" for own, base in row.ms.values()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_table(readme: Path, rows: Sequence[Timed]) -> None:
    """Puts the table between its two markers in a README.

    Raises:
        ValueError: the file does not have both markers, in this order.
    """
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} needs both lines, in this order: {BEGIN} and {END}")
    readme.write_text(f"{before}{BEGIN}\n{markdown_table(rows)}{END}{after}")
