"""The accuracy of a model, and what its images cost, on labelled images."""

from collections.abc import Callable
from typing import Any

import keras

from keras_dynnets.core.dynamic import interface
from keras_dynnets.measure.per_image import measure
from keras_dynnets.training.data.datasets import Split


def evaluate(
    model: keras.Model,
    split: Split,
    batch_size: int = 500,
    progress: Callable[[int], Any] = lambda done: None,
) -> dict[str, Any]:
    """Measures top-1 accuracy on a split, and what the model's family adds to it.

    Args:
        model: a model of the zoo, or any that `profile.measure` takes.
        split: labelled images.
        batch_size: images a step.
        progress: called with the number of images that are done.

    Returns:
        A dict with `accuracy` in [0, 1] and `images`, their number. A model that skips work adds
        `macs_mean`, `macs_all_on` (MACs for one image) and `macs_share`, one with gates
        `execution_rate`, one that detaches into several `sub_models`, the accuracy of each.
    """
    measured = measure(model, split.images, batch_size, progress)
    accuracy = float((measured.logits.argmax(-1) == split.labels).mean())

    def accuracy_of(part: keras.Model) -> float:
        return evaluate(part, split, batch_size)["accuracy"]

    more = interface(model).summary_metrics(measured, accuracy, accuracy_of)
    return {"accuracy": accuracy, "images": len(split), **more}
