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
from keras_dynnets.training.data.datasets import Split, load_data

SIZE = 16  # pixels, height and width of the images


def run(
    folder: Path, epochs: int, say: Callable[[str], Any], name: str = "dmnn18_cifar"
) -> list[dict[str, str]]:
    """Trains a DMNN on scikit-learn's digits and puts files and a picture in `folder`.

    The default is a wide network on small images, whose paths are large enough for their
    conditions to pay in every runtime.

    Args:
        folder: where they go; it is made if it does not exist.
        epochs: of training.
        say: called with every line of progress.
        name: name of the DMNN in the zoo.

    Returns:
        The table, a list of rows, each a dict of texts by column.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = load_data("digits")
    train, validation, test = map(_small, (data.train, data.validation, data.test))
    say(f"1/4 {name}, trained on {len(train)} digits of {SIZE}x{SIZE} pixels")
    model = zoo.load(
        name,
        weights=None,
        num_classes=10,
        input_shape=(SIZE, SIZE, 3),
        target_rate=0.6,
        resource_weight=4.0,
        logits_stddev=0.2,
        gate_noise=0.5,
        seed=0,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)
    batches = Batches(train, 64, flip=False, translate=1)
    shown = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: say(
            f"    epoch {epoch + 1} of {epochs}: "
            + ", ".join(f"{key} {value:.3f}" for key, value in logs.items())
        )
    )
    held_out = (np.asarray(validation.images, "float32"), validation.labels)
    model.fit(batches, epochs=epochs, validation_data=held_out, verbose=0, callbacks=[shown])

    say(f"2/4 the {len(test)} test images")
    images = np.asarray(test.images, "float32")
    measured = measure(model, images)
    say(f"    picture: {macs_histogram(measured, folder / 'macs_histogram.png')}")
    rows = [_row("Keras", measured, measured.logits, test.labels)]
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
            f"{report.bytes:,} bytes; {_conditions(report.ungated_branches, model)}"
        )
        reference = folder / f".{file}.reference"
        target.write(plain, reference, WriteJob(batch_size))
        runs = (target.runner(folder / file, 1), target.runner(reference, 1))
        logits, seconds = _side_by_side(*runs, images, target.images_a_call)
        _remove(reference)
        step = target.images_a_call
        rows.append(_row(target.runtime, measured, logits, test.labels, step, seconds))
    say("4/4 done")
    return rows


def _small(split: Split) -> Split:
    """Gives digits of 32x32 pixels, which are enlarged four times, enlarged twice."""
    return Split(np.asarray(split.images)[:, ::2, ::2], split.labels)


def _conditions(ungated: int, model: Any) -> str:
    """Says for how many sub-blocks the file has no condition."""
    if not ungated:
        return "every sub-block stands behind its gate"
    return (
        f"{ungated} of {model.path_macs.size} sub-blocks run for every image, because a condition "
        "would take longer than they do"
    )


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
