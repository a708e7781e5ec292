"""The networks of a Puppet-CNN's levels in one graph, chosen by the complexity of the image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core.arguments import plain
from keras_dynnets.core.conditional import NetworkSwitch
from keras_dynnets.families.puppet.input_complexity import InputComplexity, complexity
from keras_dynnets.families.puppet.levels import bounds_between, index_between

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.model import PuppetCNN

MARGIN = 0.002  # of complexity; a half-precision file has it within 0.0005 (on CIFAR-10 images)


class LevelSwitch(NetworkSwitch):
    """Runs the one of several plain networks that is for an image's complexity.

    Args:
        networks: functional models of one input and output shape, starting with the one for the
            least complex images.
        bounds: complexities above which the next network takes over, one fewer than networks.
        conditional: see `NetworkSwitch`.
    """

    def __init__(
        self,
        networks: Sequence[keras.Model],
        bounds: np.ndarray,
        conditional: bool = False,
        **kwargs: Any,
    ):
        super().__init__(networks, conditional, **kwargs)
        self.bounds = np.asarray(bounds, "float32")
        self.complexity = InputComplexity(name="complexity")

    def place(self, images: Any) -> Any:
        return index_between(self.complexity(images), self.bounds)

    def with_networks(self, networks: Sequence[keras.Model], conditional: bool) -> "LevelSwitch":
        return LevelSwitch(networks, self.bounds, conditional, name=self.name, dtype="float32")

    def verification_images(
        self, images: np.ndarray | None, made_up: np.ndarray, count: int
    ) -> tuple[np.ndarray, int]:
        """Picks images of as many levels as possible to compare a file with Keras on.

        Images whose complexity is so near a bound that rounding decides are left out.

        Args:
            images: the user's images, (n, height, width, channels) in [0, 255], or None.
            made_up: images to use, with some for every level, if the user gives none.
            count: how many to pick; more if there are more levels.

        Returns:
            The images, and the number of levels among them.

        Raises:
            ValueError: the complexities of all images are near a bound.
        """
        if images is None:
            images = np.concatenate([made_up, self._of_all_levels(made_up[0].shape)])
        found = complexity(images)
        clear = np.flatnonzero(np.abs(found[:, None] - self.bounds).min(1) > MARGIN)
        if not len(clear):
            raise ValueError(
                "each of the images to verify with has a complexity on the border of two levels; "
                "give other images"
            )
        indices = ops.convert_to_numpy(index_between(found[clear], self.bounds))
        _, first = np.unique(indices, return_index=True)
        rest = np.setdiff1d(np.arange(len(clear)), first)
        chosen = [*first, *rest][: max(count, len(first))]
        return images[clear[chosen]], len(first)

    def _of_all_levels(self, shape: tuple[int, ...]) -> np.ndarray:
        """Makes an image for each level: noise, whose strength is found by bisection."""
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


def kept_levels(model: "PuppetCNN", levels: Sequence[int] | None) -> list[int]:
    """Checks and sorts the levels that a user wants to keep.

    Args:
        model: a `PuppetCNN`.
        levels: indices into `model.depths`; None for all.

    Raises:
        ValueError: `levels` is no list, is empty, or holds a level twice or one that does not
            exist.
    """
    levels = plain(levels)
    if isinstance(levels, int):
        raise ValueError(f"levels is a list of integers; give levels=[{levels}]")
    count = len(model.depths)
    kept = list(range(count)) if levels is None else sorted(levels)
    if not kept or len(set(kept)) < len(kept) or not set(kept) <= set(range(count)):
        raise ValueError(
            f"levels of {model.name} are some of 0 to {count - 1}, each once, not {levels}"
        )
    return kept


def switching(model: "PuppetCNN", levels: Sequence[int] | None = None) -> keras.Model:
    """Builds a functional model with constant kernels that chooses among levels.

    Args:
        model: a `PuppetCNN` with levels.
        levels: the levels to keep, indices into `model.depths`; None for all. Images of another
            level go to the nearest one.

    Returns:
        A functional `keras.Model`; for a single level, its plain network.

    Raises:
        ValueError: a level that does not exist or is given twice, or a model without levels.
    """
    kept = kept_levels(model, levels)
    networks = [model.materialise(level) for level in kept]
    if len(networks) == 1:
        return networks[0]
    quantiles = ops.convert_to_numpy(model.puppet.quantiles)
    bounds = bounds_between(kept, len(model.depths), quantiles)
    images = keras.Input(model.input_shape[1:], name="images")
    switch = LevelSwitch(networks, bounds, name="levels")
    return keras.Model(images, switch(images), name=model.name)
