"""The whole way on real data: load, fine-tune, measure, export, run elsewhere."""

import shutil
import time
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import zoo
from keras_dynnets.export import litert, onnx, saved_model
from keras_dynnets.export.api import export_model
from keras_dynnets.families.dmnn.forced_gates import without_gates
from keras_dynnets.profile import macs_histogram, measure
from keras_dynnets.training import Batches, load_data

FILES = {  # runtime: (format, module, end of the file's name, batch size, images a call)
    "LiteRT": ("litert", litert, ".tflite", 1, 1),
    "ONNX Runtime": ("onnx", onnx, ".onnx", 1, 1),
    "SavedModel": ("saved_model", saved_model, "_saved_model", None, 64),
}


def run(folder, epochs, say, name="dmnn20"):
    """Fine-tunes a DMNN on scikit-learn's digits and puts files and a plot in `folder`.

    Args:
        folder: where they go; made if need be.
        epochs: of fine-tuning.
        say: called with every line of progress.
        name: of the DMNN in the zoo.

    Returns:
        The table, a list of rows, each a dict of texts by column.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = load_data("digits")
    pretrained = zoo.labels(name) is not None
    say(
        f"1/4 {name}, {'pretrained on CIFAR-10' if pretrained else 'untrained'}, fine-tuned on {len(data.train)} digits"
    )
    model = zoo.load(
        name, weights="default" if pretrained else None, num_classes=10, target_rate=0.7, seed=0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"], jit_compile=False)
    validation = (data.validation.images.astype("float32"), data.validation.labels)
    model.fit(
        Batches(data.train, 64, flip=False, translate=2),
        epochs=epochs,
        validation_data=validation,
        verbose=2,
    )

    say(f"2/4 the {len(data.test)} test images")
    images = data.test.images.astype("float32")
    measured = measure(model, images)
    say(f"    plot: {macs_histogram(measured, folder / 'macs_histogram.png')}")
    rows = [_row("Keras", measured, measured.logits, data.test.labels)]
    plain = without_gates(model)
    for runtime, (kind, module, end, batch_size, step) in FILES.items():
        file = f"{name}{end}"
        say(f"3/4 export for {runtime}: {folder / file}")
        report = export_model(
            model, folder / file, kind, batch_size=batch_size, labels=data.classes, images=images
        )
        say(
            f"    checked on {report.images} images over {report.paths} paths, {report.bytes:,} bytes"
        )
        reference = folder / f".{file}.reference"
        module.write(plain, reference, batch_size, False, ("logits",))
        logits, seconds = _side_by_side(
            module.runner(folder / file, 1), module.runner(reference, 1), images, step
        )
        _remove(reference)
        rows.append(_row(runtime, measured, logits, data.test.labels, step, seconds))
    say("4/4 done")
    return rows


def _side_by_side(run, reference, images, step):
    """Logits of a file, and its and its reference's seconds an image in every call, called in turn."""
    run(images=images[:step]), reference(images=images[:step])
    logits, seconds = [], []
    for i in range(0, len(images), step):
        batch = images[i : i + step]
        started = time.perf_counter()
        logits.append(run(images=batch)["logits"])
        half = time.perf_counter()
        reference(images=batch)
        seconds.append(((half - started) / len(batch), (time.perf_counter() - half) / len(batch)))
    return np.concatenate(logits), np.array(seconds)


def _row(runtime, measured, logits, labels, step="-", seconds=None):
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


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
