"""The puppet: a CNN whose kernels and depth follow from the complexity of its input."""

import types
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core.freezing import KeepsFrozen
from keras_dynnets.families.puppet.branch_run import BranchRun
from keras_dynnets.families.puppet.branches import ADAPT, branches_of
from keras_dynnets.families.puppet.generated_conv import GeneratedConv2D
from keras_dynnets.families.puppet.input_complexity import InputComplexity
from keras_dynnets.families.puppet.kernel_ode import METHODS, STATES, KernelODE
from keras_dynnets.families.puppet.kernels import kernel_for
from keras_dynnets.families.puppet.level_normalization import LevelNormalization
from keras_dynnets.families.puppet.levels import RANKS, level_of, rank_of
from keras_dynnets.families.puppet.plan import Plan

MOMENTUM = 0.9  # of the moving statistics


@keras.saving.register_keras_serializable(package="keras_dynnets")
class Puppet(KeepsFrozen, keras.layers.Layer):
    """Runs a CNN whose kernels are generated; `PuppetCNN` is the model around this layer.

    Args:
        network: the template, a functional Keras model from images in [0, 255] of a fixed size to
            one output.
        adapt: "none", "parameters" or "depth", see `PuppetCNN`.
        levels: number of levels; None for kernels generated for each image.
        normalise_kernels: see `kernel_of`.
        ode: options of the `KernelODE`: state, method, horizon and seed.

    Attributes:
        plan: the `Plan` of the network.
        branches: the networks that the layer can be, one `Branch` for each level; with
            `levels=None` one for each depth.
        ode: the puppeteer, a `KernelODE`.
        quantiles: complexities of the training images at equal steps of their rank, (65,).
        statistics: mean and variance of every normalised channel in every branch,
            (branches, 2, channels of all norms).
        norm_slices: for each norm, the slice of its channels in `statistics`.

    Call arguments:
        images: (batch, height, width, channels) in [0, 255].
        training: whether to run all images in the branch of their median, with the batch's own
            statistics, and update the moving ones.

    Output shape: that of the network.

    Raises:
        ValueError: the network has no convolution to generate, or is of another kind.

    Example:
        >>> layer = Puppet(network, "depth", 8, True, {"state": "noise"})
        >>> logits = layer(images)

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, sections 3.2 to 3.4, equations 12
    and 13.
    """

    def __init__(
        self,
        network: keras.Model,
        adapt: str,
        levels: int | None,
        normalise_kernels: bool,
        ode: Mapping[str, Any],
        **kwargs: Any,
    ):
        # No automatic cast: the complexity needs the images in full precision.
        super().__init__(**kwargs, autocast=False)
        # In TensorFlow the sizes of the groups of images depend on their values.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.adapt = adapt
        self.levels = levels
        self.normalise_kernels = normalise_kernels
        self.ode_options = dict(ode)
        self.plan = Plan(network)
        self.ode = KernelODE(self.plan.channels, self.plan.kernel_size, name="puppeteer", **ode)
        self.complexity = InputComplexity(name="complexity")
        self.convolutions = [GeneratedConv2D.like(layer) for layer in self.plan.convolutions]
        self.norms = [
            LevelNormalization(norm.epsilon, name=norm.name, dtype=norm.dtype_policy)
            for norm in self.plan.norms
        ]
        self.kept = list(self.plan.kept)
        self.branches = branches_of(self.plan, adapt, levels)
        ends = np.cumsum([0, *(norm.moving_mean.shape[0] for norm in self.plan.norms)])
        self.norm_slices = [slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False)]
        self._refused = None  # the message of a load that was refused
        # Whether whoever trains the layer forms batches of one level or has been told to. A
        # namespace is hidden from Keras's saving.
        self.notice = types.SimpleNamespace(given=False)

    def build(self, input_shape: Any) -> None:
        self.ode.build()
        for layer in (*self.convolutions, *self.norms):
            layer.built = True
        self.quantiles = self.add_weight(
            (RANKS,), _equal_steps, trainable=False, name="quantiles", dtype="float32"
        )
        channels = self.norm_slices[-1].stop if self.norm_slices else 0
        self.statistics = self.add_weight(
            (len(self.branches), 2, channels),
            _zero_mean_unit_variance,
            trainable=False,
            name="statistics",
            dtype="float32",
        )
        self.freeze_again()

    # ---- running

    def call(self, images: Any, training: bool | None = None) -> Any:
        ranks = self.rank(images)
        indices = self.branch_of(ranks)
        training = bool(training)
        if training and self.trainable:
            self._warn_of_mixed_levels()
            return self._train(images, ranks, indices)
        if len(self.branches) == 1:
            return self.run(images, ranks, 0, self.statistics[0], training)[0]
        return self._each_in_its_branch(images, ranks, indices, training)

    def rank(self, images: Any) -> Any:
        """Computes the share of the training images that are less complex than each image.

        Args:
            images: (batch, height, width, channels) in [0, 255].

        Returns:
            (batch,) in [0, 1].
        """
        return rank_of(self.complexity(images), self.quantiles)

    def branch_of(self, ranks: Any) -> Any:
        """Gives the index of the branch for each rank, (batch,) int32."""
        return level_of(ranks, len(self.branches))

    def run(
        self,
        images: Any,
        ranks: Any,
        index: Any,
        statistics: Any = None,
        training: bool = False,
    ) -> tuple[Any, Any]:
        """Runs all images in one branch.

        Args:
            images: (batch, height, width, channels).
            ranks: ranks of their complexities, (batch,).
            index: index of the branch, an integer or a scalar tensor.
            statistics: mean and variance for all norms, (2, channels of all norms); None for
                those of the batch.
            training: whether the layers that are not generated are told that this is a training.

        Returns:
            The output, and the statistics that it was normalised with, (2, channels of all
            norms); those of norms that did not run are the stored ones of the branch.
        """
        return BranchRun(self, index, statistics, training)(images, ranks)

    def _warn_of_mixed_levels(self) -> None:
        """Says once that a training outside the model's own `fit` mixes levels in a batch."""
        if self.notice.given or len(self.branches) == 1:
            return
        self.notice.given = True
        warnings.warn(
            f"the {len(self.branches)} levels of {self.name} train outside its model's own fit: "
            "every batch runs at the median level of its images, so that some levels hardly train, "
            "and complexities are not ranked. Call rank(images) of the model and give fit the "
            "batches of puppet.by_level(dataset, model, batch_size), augmented in the data set; or "
            "freeze the model (trainable = False), which runs every image at its own level",
            stacklevel=2,
        )

    def _train(self, images: Any, ranks: Any, indices: Any) -> Any:
        """Runs all images in the branch of their median and updates its moving statistics."""
        median = ops.sort(indices)[ops.shape(indices)[0] // 2]
        outputs, found = self.run(images, ranks, median, training=True)
        if not self.norms:
            return outputs
        chosen = ops.cast(ops.arange(len(self.branches)) == median, "float32")[:, None, None]
        self.statistics.assign(
            self.statistics + chosen * (1 - MOMENTUM) * (found[None] - self.statistics)
        )
        return outputs

    def _each_in_its_branch(self, images: Any, ranks: Any, indices: Any, training: bool) -> Any:
        """Runs every image in its own branch; a branch without images does not run.

        An image with a NaN pixel has no rank and no branch, and its outputs are NaN.
        """
        shape = tuple(self.plan.network.output_shape[1:])
        # Other backends than TensorFlow need fixed sizes: there every branch that runs gets all
        # images, and the results for the images of other branches are left out.
        fixed_sizes = keras.backend.backend() != "tensorflow"

        def run(index: Any, outputs: Any) -> Any:
            own = indices == index
            if fixed_sizes:
                statistics = ops.take(self.statistics, index, axis=0)
                found, _ = self.run(images, ranks, index, statistics, training)
                return ops.where(ops.reshape(own, (-1, *(1 for _ in shape))), found, outputs)
            import tensorflow as tf

            # int32, as in the gradient of the branch that is not taken: TensorFlow wants both so.
            rows = tf.cast(tf.where(own), "int32")
            part, part_ranks = tf.gather_nd(images, rows), tf.gather_nd(ranks, rows)
            found, _ = self.run(part, part_ranks, index, self.statistics[index], training)
            return tf.tensor_scatter_nd_update(outputs, rows, found)

        def step(index: Any, outputs: Any) -> Any:
            has_images = ops.any(indices == index)
            return ops.cond(has_images, lambda: run(index, outputs), lambda: outputs)

        # 0 for each image, NaN for those without a rank.
        zeros = ops.cast(0.0 * ranks, self.plan.network.outputs[0].dtype)
        zeros = ops.reshape(zeros, (-1, *(1 for _ in shape)))
        start = zeros + ops.zeros(shape, zeros.dtype)
        outputs = ops.fori_loop(0, len(self.branches), step, start)
        return ops.reshape(outputs, (-1, *shape))

    def kernels(self, index: int, noise: Any = None) -> dict[keras.Layer, Any]:
        """Generates the kernels of a branch.

        Args:
            index: index of the branch.
            noise: see `KernelODE`.

        Returns:
            Kernels by the layers of the template, in running order. Where each image has kernels
            of its own, those of an image of rank 0.5.
        """
        branch = self.branches[index]
        layers = self.plan.running(branch.dropped)
        complexity = 0.5 if branch.complexity is None else branch.complexity
        states = self.ode(
            ops.convert_to_tensor([complexity], "float32"), steps=len(layers), noise=noise
        )
        return {
            layer: kernel_for(layer, state, self.normalise_kernels)[0]
            for layer, state in zip(layers, states, strict=True)
        }

    def compute_output_spec(self, images: Any, training: bool | None = None) -> keras.KerasTensor:
        output = self.plan.network.outputs[0]
        return keras.KerasTensor((images.shape[0], *output.shape[1:]), dtype=output.dtype)

    # ---- saving

    @property
    def _form(self) -> dict[str, int]:
        """What saved values depend on besides their shapes, as integers by name."""
        ode = self.ode
        return {
            "adapt": ADAPT.index(self.adapt),
            "state": STATES.index(ode.state),
            "method": METHODS.index(ode.method),
            "horizon in thousandths": round(1000 * ode.horizon),
            "seed": ode.seed if ode.state == "noise" else 0,
            "normalise_kernels": int(self.normalise_kernels),
            "outputs": self.plan.network.output_shape[-1],
        }

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store["form"] = np.array([*self._form.values()], "int32")

    def load_own_variables(self, store: Any) -> None:
        """Loads values, unless they come from a puppet of another form.

        Such values may have the same shapes, but the network that they give would be another one.

        Raises:
            ValueError: the values come from a puppet of another form; the message says in what.
        """
        keys = list(store.keys())
        own = {key: store[key] for key in keys if key != "form"}
        if "form" in keys:
            pairs = zip(self._form.items(), np.asarray(store["form"]).tolist(), strict=True)
            wrong = [
                f"{name} ({theirs} there, {mine} here)"
                for (name, mine), theirs in pairs
                if theirs != mine
            ]
            self._refused = (
                f"these are values of a puppet with another {', '.join(wrong)}; make the model "
                "with the options that the file was saved with"
                if wrong
                else None
            )
        # Keras catches the error, tries another place in the file, which has no "form", and
        # reports the last error.
        if self._refused:
            raise ValueError(self._refused)
        super().load_own_variables(own)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.plan.network),
            "adapt": self.adapt,
            "levels": self.levels,
            "normalise_kernels": self.normalise_kernels,
            "ode": self.ode_options,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Puppet":
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("network")), **config)


def _equal_steps(shape: tuple, dtype: Any = None) -> Any:
    """Gives quantiles with which the rank of a complexity is the complexity itself."""
    return ops.linspace(0.0, 1.0, shape[0], dtype=dtype)


def _zero_mean_unit_variance(shape: tuple, dtype: Any = None) -> Any:
    """Gives statistics with which norms change nothing, (branches, 2, channels)."""
    size = (shape[0], shape[2])
    return ops.stack([ops.zeros(size, dtype), ops.ones(size, dtype)], axis=1)
