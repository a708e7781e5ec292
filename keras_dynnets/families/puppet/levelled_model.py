"""A model that runs and trains its images in groups of one level."""

import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core.arguments import is_truth
from keras_dynnets.core.class_names import name_classes, names_of_classes
from keras_dynnets.core.images import checked_shape
from keras_dynnets.families.puppet.calibration import measured_statistics
from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.families.puppet.level_batches import LevelBatches, arrays_of_one_length
from keras_dynnets.families.puppet.levels import RANKS, level_of, rank_of
from keras_dynnets.families.puppet.materialise import PlainNetworks, materialised
from keras_dynnets.families.puppet.puppet_layer import Puppet

BATCH_SIZE = 32  # of `fit` and `predict` by default


class LevelledModel(keras.Model):
    """A functional model around a `Puppet`, whose images each have a level by their complexity.

    Attributes:
        puppet: the layer that runs the images.
    """

    puppet: Puppet
    _networks: PlainNetworks  # of the levels, for `predict`

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of convolutions that run at each level, from the least complex images on."""
        return tuple(branch.depth for branch in self.puppet.branches)

    def levels_of(self, images: np.ndarray) -> np.ndarray:
        """Gives the level of each image, an index into `depths`.

        Args:
            images: (n, height, width, channels) in [0, 255].

        Returns:
            (n,) int32.

        Raises:
            ValueError: the images have another shape than the model's, or a pixel is not finite.
        """
        images = checked_shape(images, self.input_shape[1:])
        ranks = rank_of(ops.convert_to_tensor(complexity(images)), self.puppet.quantiles)
        return ops.convert_to_numpy(level_of(ranks, len(self.depths)))

    def rank(self, images: np.ndarray) -> None:
        """Stores the complexities of training images, by which all images are ranked.

        `fit` with arrays and `calibrate` do so when it has not been done.

        Args:
            images: (n, height, width, channels) in [0, 255], some thousand.

        Raises:
            ValueError: the images have another shape than the model's, or a pixel is not finite.
        """
        found = complexity(checked_shape(images, self.input_shape[1:]))
        quantiles = np.quantile(found, np.linspace(0, 1, RANKS))
        self.puppet.quantiles.assign(quantiles.astype("float32"))

    @property
    def ranked(self) -> bool:
        """True if the complexities of training images have been stored."""
        return not np.allclose(
            ops.convert_to_numpy(self.puppet.quantiles), np.linspace(0, 1, RANKS)
        )

    def calibrate(self, images: np.ndarray, batch_size: int = 100) -> None:
        """Sets the batch-norm statistics of every level by one pass over the images for it.

        Args:
            images: (n, height, width, channels) in [0, 255], some hundred for each level.
            batch_size: images a pass.

        Raises:
            ValueError: there are no images, they have another shape than the model's, or a pixel
                is not finite.
        """
        if not len(images):
            raise ValueError("calibration needs images, some hundred of the kind that will be seen")
        if not self.ranked:
            self.rank(images)
        self.puppet.statistics.assign(measured_statistics(self, images, batch_size))

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains the model as `keras.Model.fit` does, in batches of one level each.

        The batch-norm statistics of a level are moving averages over its batches; `calibrate`
        makes better ones after the training.

        Args:
            x: images as an array, (n, height, width, channels) in [0, 255], which are batched by
                level; or a data set that `by_level` has batched.
            y: labels, for images as an array.
            batch_size: images a batch; None for 32.
            epochs: see `keras.Model.fit`, as for the arguments that follow.
            verbose: how the progress is shown.
            callbacks: Keras callbacks.
            validation_split: share of the last images that is used for validation.
            validation_data: images and labels for validation, or a data set.
            shuffle: whether images and batches are shuffled every epoch.
            class_weight: weights by class.
            sample_weight: a weight for each image, for images as an array.
            **kwargs: further arguments of `keras.Model.fit`.

        Returns:
            The history of losses and metrics.

        Raises:
            ValueError: arrays of different lengths, or a data set before `rank` was called.
        """
        kwargs |= dict(
            epochs=epochs, verbose=verbose, callbacks=callbacks, class_weight=class_weight
        )
        if hasattr(x, "__array__"):
            arrays = arrays_of_one_length(x, y, sample_weight)
            held_out = int(len(arrays[0]) * validation_split)
            if held_out:
                validation_data = tuple(array[-held_out:] for array in arrays)
                arrays = [array[:-held_out] for array in arrays]
            if not self.ranked:
                self.rank(arrays[0])
            # The generator of NumPy, because keras.utils.set_random_seed sets its seed.
            seed = np.random.randint(2**31)
            levels = self.levels_of(arrays[0])
            batches = LevelBatches(arrays, levels, batch_size or BATCH_SIZE, shuffle, seed)
            return self._fit(batches, validation_data=validation_data, **kwargs)
        if not self.ranked:
            raise ValueError(
                f"{self.name} does not know the complexities of your training images; call "
                "model.rank(some_thousand_images) once, then fit batches of one level, "
                "puppet.by_level(dataset, model, batch_size)"
            )
        kwargs |= dict(
            batch_size=batch_size, validation_split=validation_split, sample_weight=sample_weight
        )
        return self._fit(x, y, validation_data=validation_data, shuffle=shuffle, **kwargs)

    def _fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Fits batches of one level, of which the layer need not warn."""
        notice = self.puppet.notice
        before, notice.given = notice.given, True
        try:
            return super().fit(*args, **kwargs)
        finally:
            notice.given = before

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
    ) -> np.ndarray:
        """Computes the outputs for images, as `keras.Model.predict` does.

        The images of a level run together in a plain CNN, unless the model has no levels, `x` is
        no array, or `steps` or `callbacks` are given.

        Args:
            x: images, (n, height, width, channels) in [0, 255], or a data set.
            batch_size: images that run at once; None for 32.
            verbose: see `keras.Model.predict`, as for the arguments that follow.
            steps: number of batches after which to stop.
            callbacks: Keras callbacks.

        Returns:
            (n, classes) for classifiers.

        Raises:
            ValueError: the images have another shape than the model's, or a pixel is not finite.
        """
        exact = self.puppet.levels is None and self.puppet.adapt != "none"
        if not hasattr(x, "__array__") or exact or steps is not None or callbacks:
            return super().predict(x, batch_size, verbose, steps, callbacks)
        images = checked_shape(x, self.input_shape[1:])
        levels = self.levels_of(images)
        outputs = np.zeros((len(images), *self.output_shape[1:]), "float32")
        size = batch_size or BATCH_SIZE
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            network = self._networks.of(self, int(level))
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                outputs[part] = network.predict_on_batch(images[part].astype("float32"))
        return outputs

    def materialise(self, level: int) -> keras.Model:
        """Builds the network of a level as a plain Keras CNN.

        Its kernels are constant, and batch norms are folded into the convolutions before them.

        Args:
            level: an index into `depths`.

        Returns:
            A functional `keras.Model` with its own copies of all weights.

        Raises:
            ValueError: the model has no such level, or no levels at all.
        """
        branches = self.puppet.branches
        whole = isinstance(level, numbers.Integral) and not is_truth(level)
        if not whole or not 0 <= level < len(branches) or branches[level].complexity is None:
            levels = (
                "no levels: kernels are each image's own"
                if self.puppet.levels is None
                else f"levels 0 to {len(branches) - 1}"
            )
            raise ValueError(f"{self.name} has no level {level!r}; it has {levels}")
        network = materialised(self.puppet, level, f"{self.name}_level{level}")
        return name_classes(network, names_of_classes(self))
