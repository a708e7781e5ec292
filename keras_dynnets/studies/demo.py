"""The whole way on real data: load, fine-tune, measure, export, run elsewhere."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.export.api import export_model
from keras_dynnets.export.formats.base import WriteJob, formats
from keras_dynnets.families.dmnn.forced_gates import without_gates
from keras_dynnets.measure.per_image import Measurement, measure
from keras_dynnets.measure.plots import macs_histogram
from keras_dynnets.training.data.batches import Batches
from keras_dynnets.training.data.datasets import load_data


def run(
    folder: Path, epochs: int, say: Callable[[str], Any], name: str = "dmnn20"
) -> list[dict[str, str]]:
    """Fine-tunes a DMNN on scikit-learn's digits and puts files and a picture in `folder`.

    Args:
        folder: where they go; it is made if it does not exist.
        epochs: of fine-tuning.
        say: called with every line of progress.
        name: name of the DMNN in the zoo.

    Returns:
        The table, a list of rows, each a dict of texts by column.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = load_data("digits")
    pretrained = zoo.labels(name) is not None
    start = "pretrained on CIFAR-10" if pretrained else "untrained"
    say(f"1/4 {name}, {start}, fine-tuned on {len(data.train)} digits")
    weights = "default" if pretrained else None
    model = zoo.load(name, weights=weights, num_classes=10, target_rate=0.7, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"], jit_compile=False)
    validation = (np.asarray(data.validation.images, "float32"), data.validation.labels)
    batches = Batches(data.train, 64, flip=False, translate=2)
    shown = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: say(
            f"    epoch {epoch + 1} of {epochs}: "
            + ", ".join(f"{key} {value:.3f}" for key, value in logs.items())
        )
    )
    model.fit(batches, epochs=epochs, validation_data=validation, verbose=0, callbacks=[shown])

    say(f"2/4 the {len(data.test)} test images")
    images = np.asarray(data.test.images, "float32")
    measured = measure(model, images)
    say(f"    picture: {macs_histogram(measured, folder / 'macs_histogram.png')}")
    rows = [_row("Keras", measured, measured.logits, data.test.labels)]
    plain = without_gates(model)
    for target in formats():
        file = f"{name}{target.suffix or '_' + target.name}"
        say(f"3/4 export for {target.runtime}: {folder / file}")
        batch_size = 1 if target.images_a_call == 1 else None
        report = export_model(
            model, folder / file, target.name, "fp32", batch_size, data.classes, images
        )
        say(
            f"    compared with Keras on {report.images} images over {report.paths} paths, "
            f"{report.bytes:,} bytes"
        )
        reference = folder / f".{file}.reference"
        target.write(plain, reference, WriteJob(batch_size))
        runs = (target.runner(folder / file, 1), target.runner(reference, 1))
        logits, seconds = _side_by_side(*runs, images, target.images_a_call)
        _remove(reference)
        labels = data.test.labels
        rows.append(_row(target.runtime, measured, logits, labels, target.images_a_call, seconds))
    say("4/4 done")
    return rows


def _side_by_side(
    run: Callable, reference: Callable, images: np.ndarray, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a file and its reference in turn.

    Returns:
        The logits of the file, and seconds for one image of both in every call, (calls, 2).
    """
    run(images=images[:step])
    reference(images=images[:step])
    logits, seconds = [], []
    for i in range(0, len(images), step):
        batch = images[i : i + step]
        started = time.perf_counter()
        logits.append(run(images=batch)["logits"])
        half = time.perf_counter()
        reference(images=batch)
        seconds.append(((half - started) / len(batch), (time.perf_counter() - half) / len(batch)))
    return np.concatenate(logits), np.array(seconds)


def _row(
    runtime: str,
    measured: Measurement,
    logits: np.ndarray,
    labels: np.ndarray,
    step: int | str = "-",
    seconds: np.ndarray | None = None,
) -> dict[str, str]:
    """Gives a row of the table; seconds are those for one image of the file and its reference."""
    row = {
        "runtime": runtime,
        "accuracy": f"{(logits.argmax(-1) == labels).mean():.3f}",
        "MACs all on": f"{measured.worst_macs / 1e6:.1f} M",
        "MACs mean": f"{measured.mean_macs / 1e6:.1f} M",
        "sub-blocks run": f"{measured.mean_execution_rate:.0%}",
        "images a call": str(step),
        "ms an image": "-",
        "ms without gates": "-",
        "realised / theoretical saving": "-",
        "largest difference": f"{np.abs(logits - measured.logits).max():.1e}",
    }
    if seconds is not None:
        ours, plain = np.median(seconds, axis=0)
        possible = 1 - measured.mean_macs_share
        saved = 1 - seconds[:, 0].sum() / seconds[:, 1].sum()
        row |= {
            "ms an image": f"{1e3 * ours:.2f}",
            "ms without gates": f"{1e3 * plain:.2f}",
            "realised / theoretical saving": f"{saved / possible:.0%}"
            if possible > 0.01
            else "nothing to save",
        }
    return row


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
