"""The networks of a Puppet-CNN's levels in one graph, chosen by the complexity of the image."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_dynnets.core.conditional import NetworkSwitch
from keras_dynnets.families.puppet.input_complexity import InputComplexity, complexity
from keras_dynnets.families.puppet.levels import bounds_between

MARGIN = 0.002  # of complexity; a half-precision file has it within 0.0005 (on CIFAR-10 images)


class LevelSwitch(NetworkSwitch):
    """Runs the one of several plain networks that is for an image's complexity.

    Args:
        networks: functional models of one input and output shape, that for the least complex
            images first.
        bounds: complexities above which the next network takes over, one fewer than networks.
        conditional: see `NetworkSwitch`.
    """

    def __init__(
        self,
        networks: Sequence[keras.Model],
        bounds: np.ndarray,
        conditional: bool = False,
        **kwargs,
    ):
        super().__init__(networks, conditional, **kwargs)
        self.bounds = np.asarray(bounds, "float32")
        self.complexity = InputComplexity(name="complexity")

    def place(self, images):
        return ops.sum(ops.cast(self.complexity(images)[:, None] > self.bounds, "int32"), axis=1)

    def with_networks(self, networks, conditional):
        return LevelSwitch(networks, self.bounds, conditional, name=self.name, dtype="float32")

    def verification_images(self, images, made_up, count):
        """Picks images of all levels, none whose complexity is so near a bound that rounding decides."""
        if images is None:
            images = np.concatenate([made_up, self._of_all_levels(made_up[0].shape)])
        found = complexity(images)
        clear = np.flatnonzero(np.abs(found[:, None] - self.bounds).min(1) > MARGIN)
        if not len(clear):
            raise ValueError(
                "each of the images to verify with has a complexity on the border of two levels; "
                "give other images"
            )
        places = np.searchsorted(self.bounds, found[clear], side="left")
        _, first = np.unique(places, return_index=True)
        rest = np.setdiff1d(np.arange(len(clear)), first)
        chosen = [*first, *rest][: max(count, len(first))]
        return images[clear[chosen]], len(first)

    def _of_all_levels(self, shape):
        """Makes an image for each level: noise, its strength found by halving."""
        noise = np.random.default_rng(0).uniform(0, 1, shape)
        inner = np.add(self.bounds[:-1], self.bounds[1:]) / 2
        images = []
        for wanted in [self.bounds[0] / 2, *inner, self.bounds[-1] + MARGIN * 1.5]:
            low, high = 0.0, 255.0
            for _ in range(20):
                middle = 0.5 * (low + high)
                below = complexity(middle * noise[None])[0] < wanted
                low, high = (middle, high) if below else (low, middle)
            images.append(high * noise)
        return np.array(images)


def switching(model, levels: Sequence[int] | None = None) -> keras.Model:
    """Gives a functional model with constant kernels that chooses among a Puppet-CNN's networks.

    Args:
        model: a `PuppetCNN` of levels.
        levels: the levels to keep, indices into `model.depths`; None for all. Images of another
            level go to the nearest one.

    Returns:
        A functional `keras.Model`; for a single level, its plain network.

    Raises:
        ValueError: a level that does not exist or that is given twice.
    """
    if isinstance(levels, int):
        raise ValueError(f"levels are a list, levels=[{levels}]")
    kept = list(range(len(model.depths))) if levels is None else sorted(levels)
    if not kept or len(set(kept)) < len(kept):
        raise ValueError(
            f"levels are some of 0 to {len(model.depths) - 1}, each once, not {levels}"
        )
    networks = [model.materialise(level) for level in kept]
    if len(networks) == 1:
        return networks[0]
    quantiles = ops.convert_to_numpy(model.puppet.quantiles)
    bounds = bounds_between(kept, len(model.depths), quantiles)
    images = keras.Input(model.input_shape[1:], name="images")
    switch = LevelSwitch(networks, bounds, name="levels")
    return keras.Model(images, switch(images), name=model.name)
