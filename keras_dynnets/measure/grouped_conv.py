"""Times of the library's grouped convolution against Keras's."""

import keras
import numpy as np

from keras_dynnets.layers.grouped_conv import GroupedConv2D
from keras_dynnets.measure.latency import seconds_of


def grouped_conv_factor(
    shape: tuple[int, int, int, int] = (32, 16, 16, 128), groups: int = 16, steps: int = 5
) -> tuple[float, float, float]:
    """Times a training step with Keras's grouped convolution and with `GroupedConv2D`.

    The network is one 3x3 convolution, pooling and a dense layer, compiled with Keras's defaults.

    Args:
        shape: (batch, height, width, channels) of the inputs.
        groups: number of groups of the convolution.
        steps: number of timed steps of each.

    Returns:
        Seconds for a step with Keras's convolution, seconds for a step with the library's, and
        the first divided by the second.

    Example:
        >>> keras_seconds, seconds, factor = profile.grouped_conv_factor()
    """
    images = np.random.default_rng(0).normal(size=(shape[0] * steps, *shape[1:]))
    images = images.astype("float32")
    labels = np.arange(len(images)) % 10
    seconds = []
    for kind in (keras.layers.Conv2D, GroupedConv2D):
        layer = kind(shape[-1], 3, padding="same", groups=groups)
        pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)
        model = keras.Sequential([keras.Input(shape[1:]), layer, pool, dense])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        fit = {"batch_size": shape[0], "verbose": 0}
        model.fit(images[: shape[0]], labels[: shape[0]], **fit)  # compiles
        timed = seconds_of(lambda model=model, fit=fit: model.fit(images, labels, **fit))
        seconds.append(timed / steps)
    return seconds[0], seconds[1], seconds[0] / seconds[1]
