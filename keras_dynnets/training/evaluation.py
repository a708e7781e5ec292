"""The accuracy of a model on labelled images, and the work that these images take."""

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
    """Measures the top-1 accuracy of a model, and the metrics that its family adds.

    Args:
        model: a Keras model from images (batch, height, width, channels) in [0, 255] to logits
            (batch, classes), of the zoo or your own.
        split: the labelled images.
        batch_size: number of images in a step.
        progress: called now and then with the number of images that are done.

    Returns:
        A dictionary with `accuracy`, in [0, 1], and `images`, the number of images. A model that
        can skip work adds `macs_mean` and `macs_all_on`, the mean and the largest number of MACs
        for one image, and `macs_share`, the first divided by the second. A model with gates adds
        `execution_rate`, the share of its sub-blocks that ran, and the number of its `gates`, with
        those that were open or closed for all images, `gates_always_open` and
        `gates_always_closed`: these decide nothing. A model that consists of several
        adds `sub_models`, the accuracy of each by its name.

    Raises:
        ValueError: the images do not have the shape that the model takes.

    Example:
        >>> model = zoo.load("resnet20", weights="cifar10")
        >>> evaluate(model, load_data("cifar10").test)["accuracy"]
    """
    images: Any = split.images  # an array, or files that are indexed like one
    measured = measure(model, images, batch_size, progress, called="evaluate")
    accuracy = float((measured.logits.argmax(-1) == split.labels).mean())

    def accuracy_of(part: keras.Model) -> float:
        return evaluate(part, split, batch_size)["accuracy"]

    more = interface(model).summary_metrics(measured, accuracy, accuracy_of)
    return {"accuracy": accuracy, "images": len(split), **more}
