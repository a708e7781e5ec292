"""The accuracy of a model on labelled images, and the work that these images take."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_dynnets.core.dynamic import interface
from keras_dynnets.measure.by_class import confusion_matrix, figures_by_class
from keras_dynnets.measure.per_image import Measurement, measure_each
from keras_dynnets.training.data.batches import images_a_step
from keras_dynnets.training.data.datasets import Split


def evaluate(
    model: keras.Model,
    split: Split,
    batch_size: int | None = None,
    progress: Callable[[int], Any] = lambda done: None,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measures the top-1 accuracy of a model, and the metrics that its family adds.

    Args:
        model: a Keras model from images (batch, height, width, channels) in [0, 255] to logits
            (batch, classes), of the zoo or your own.
        split: the labelled images.
        batch_size: number of images in a step; None for 500 images in memory, or 64 in files. Of
            images in files two batches are in memory at a time.
        progress: called now and then with the number of images that are done.
        classes: names of the classes in the order of the logits, for figures by class.

    Returns:
        A dictionary with `accuracy`, in [0, 1], and `images`, the number of images. A model that
        can skip work adds `macs_mean` and `macs_all_on`, the mean and the largest number of MACs
        for one image, and `macs_share`, the first divided by the second, unless it holds a layer
        whose cost is not known. A model with gates adds `execution_rate`, the share of its
        sub-blocks that ran, and the number of its `gates`, with those that were open or closed for
        all images, `gates_always_open` and `gates_always_closed`: these decide nothing. A model
        that consists of several adds `sub_models`, the accuracy of each by its name. With
        `classes` there are `by_class`, the `images`, `recall` and `precision` of each class (see
        `figures_by_class`), and `confusion`, the number of images of each class (a row) taken for
        each class (a column).

    Raises:
        ValueError: the images do not have the shape that the model takes.

    Example:
        >>> model = zoo.load("resnet20", weights="cifar10")
        >>> evaluate(model, load_data("cifar10").test)["accuracy"]
    """
    images: Any = split.images  # an array, or files that are indexed like one
    batch_size = images_a_step(split) if batch_size is None else batch_size
    parts = interface(model).evaluated_parts()
    networks = [model, *parts.values()]
    measured, *others = measure_each(networks, images, batch_size, progress, "evaluate", False)
    of_parts = dict(zip(parts, others, strict=True))

    def accuracy(found: Measurement) -> float:
        return float((found.logits.argmax(-1) == split.labels).mean())

    more = interface(model).summary_metrics(
        measured, accuracy(measured), lambda name: accuracy(of_parts[name])
    )
    results = {"accuracy": accuracy(measured), "images": len(split), **more}
    if classes is not None:
        matrix = confusion_matrix(split.labels, measured.logits.argmax(-1), len(classes))
        results |= {"by_class": figures_by_class(matrix, classes), "confusion": matrix.tolist()}
    return results
