"""The networks of a Puppet-CNN's levels in one graph, chosen by the complexity of the image."""

import keras
import numpy as np
from keras import ops

from keras_dynnets.layers import InputComplexity


class LevelSwitch(keras.layers.Layer):
    """Runs, of several plain networks, the one that is for an image's complexity. Of deployed models; it is not saved.

    Args:
        networks: functional models of one input and output shape, from the least complex images' on.
        bounds: complexities above which the next one takes over, one fewer.
        conditional: whether for a batch of one image, by nested conditions; else images are grouped.
    """

    def __init__(self, networks, bounds, conditional=False, **kwargs):
        super().__init__(**kwargs)
        self.networks = list(networks)
        self.bounds = np.asarray(bounds, "float32")
        self.conditional = conditional
        self.complexity = InputComplexity(name="complexity")

    def of(self, networks, conditional):
        """The same with other networks in the places of these."""
        return LevelSwitch(networks, self.bounds, conditional, name=self.name, dtype="float32")

    def place(self, images):
        """Of each image, the place of its network, (batch,)."""
        return ops.sum(ops.cast(self.complexity(images)[:, None] > self.bounds, "int32"), axis=1)

    def call(self, images):
        places = self.place(images)
        if self.conditional:
            return self._nested(images, places[0], 0, len(self.networks))
        outputs = ops.zeros((ops.shape(images)[0], *self.networks[0].output_shape[1:]))
        for i, network in enumerate(self.networks):
            outputs = ops.cond(
                ops.any(places == i),
                lambda i=i, network=network, before=outputs: self._with(i, network, places, images, before),
                lambda before=outputs: before,
            )
        return outputs

    def _with(self, i, network, places, images, outputs):
        import tensorflow as tf

        rows = tf.where(places == i)
        return tf.tensor_scatter_nd_update(outputs, rows, network(tf.gather_nd(images, rows), training=False))

    def _nested(self, images, place, start, end):
        if end - start == 1:
            return self.networks[start](images, training=False)
        middle = (start + end) // 2
        return ops.cond(
            place < middle,
            lambda: self._nested(images, place, start, middle),
            lambda: self._nested(images, place, middle, end),
        )

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], *self.networks[0].output_shape[1:]), dtype="float32")


def switching(model, levels=None):
    """A Puppet-CNN with constant kernels: a functional model that chooses among its plain networks.

    Args:
        model: a `PuppetCNN` of levels.
        levels: those to keep, places in `model.depths`; None for all. Images of another one go to the nearest.

    Returns:
        A functional `keras.Model`; with a single level, its plain network.

    Raises:
        ValueError: a level that there is not, or one twice.
    """
    if isinstance(levels, int):
        raise ValueError(f"levels are a list, levels=[{levels}]")
    kept = list(range(len(model.depths))) if levels is None else sorted(levels)
    if not kept or len(set(kept)) < len(kept):
        raise ValueError(f"levels are some of 0 to {len(model.depths) - 1}, each once, not {levels}")
    networks = [model.materialise(level) for level in kept]
    if len(networks) == 1:
        return networks[0]
    ranks = [(a + b + 1) / 2 / len(model.depths) for a, b in zip(kept, kept[1:], strict=False)]
    quantiles = ops.convert_to_numpy(model.puppet.quantiles)
    bounds = np.interp(ranks, np.linspace(0, 1, len(quantiles)), quantiles)
    images = keras.Input(model.input_shape[1:], name="images")
    return keras.Model(images, LevelSwitch(networks, bounds, name="levels")(images), name=model.name)
