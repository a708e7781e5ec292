"""The puppet: a CNN whose kernels and depth follow from the complexity of its input."""

import functools
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_dynnets.core import graph
from keras_dynnets.families.puppet.generated_conv import GeneratedConv2D
from keras_dynnets.families.puppet.input_complexity import InputComplexity
from keras_dynnets.families.puppet.kernel_ode import METHODS, STATES, KernelODE, kernel_of
from keras_dynnets.families.puppet.level_normalization import LevelNormalization
from keras_dynnets.families.puppet.levels import RANKS, level_of, rank_of
from keras_dynnets.families.puppet.plan import Plan

MOMENTUM = 0.9  # of the statistics
ADAPT = ("none", "parameters", "depth")


@dataclass(frozen=True)
class Branch:
    """One network of the family.

    Attributes:
        depth: convolutions that run. dropped: segments that do not.
        complexity: rank that its kernels are generated from; None for each image's own.
    """

    depth: int
    dropped: int
    complexity: float | None


@keras.saving.register_keras_serializable(package="keras_dynnets")
class Puppet(keras.layers.Layer):
    """Runs a CNN with generated kernels. `PuppetCNN` is the model of it and says what the arguments are.

    Attributes:
        branches: the networks that it can be: one for each level; with `levels=None` one for each depth.
        ode: the puppeteer.
        quantiles: complexities of the training images at equal ranks, (RANKS,).
        statistics: mean and variance of every normalised channel in every branch, (branches, 2, channels of all).
    """

    def __init__(self, network, adapt, levels, normalise_kernels, ode, **kwargs):
        super().__init__(**kwargs, autocast=False)  # complexity wants the images as they are
        self.supports_jit = (
            keras.backend.backend() != "tensorflow"
        )  # whose groups of images have sizes that they decide
        self.adapt, self.levels, self.normalise_kernels, self.ode_options = (
            adapt,
            levels,
            normalise_kernels,
            dict(ode),
        )
        self.plan = Plan(network)
        self.ode = KernelODE(self.plan.channels, self.plan.kernel_size, name="puppeteer", **ode)
        self.complexity = InputComplexity(name="complexity")
        self.convolutions = [GeneratedConv2D.like(layer) for layer in self.plan.convolutions]
        self.norms = [
            LevelNormalization(norm.epsilon, name=norm.name, dtype=norm.dtype_policy)
            for norm in self.plan.norms
        ]
        self.kept = list(self.plan.kept)
        self.branches = self._branches()
        ends = np.cumsum([0, *(norm.moving_mean.shape[0] for norm in self.plan.norms)])
        self._refused = None
        self.parts = [slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False)]

    def build(self, input_shape):
        self.ode.build()
        for layer in (*self.convolutions, *self.norms):
            layer.built = True
        self.quantiles = self.add_weight(
            (RANKS,), _unknown, trainable=False, name="quantiles", dtype="float32"
        )
        channels = self.parts[-1].stop if self.parts else 0
        self.statistics = self.add_weight(
            (len(self.branches), 2, channels),
            _standard,
            trainable=False,
            name="statistics",
            dtype="float32",
        )

    def _branches(self):
        segments = self.plan.droppable if self.adapt == "depth" else 0

        def branch(rank, complexity):
            dropped = segments - int(rank * (segments + 1))
            return Branch(len(self.plan.running(dropped)), dropped, complexity)

        if self.adapt == "none":
            return (branch(0.5, 0.5),)
        count = segments + 1 if self.levels is None else self.levels
        middles = [(i + 0.5) / count for i in range(count)]
        return tuple(branch(middle, None if self.levels is None else middle) for middle in middles)

    # ---- running

    def call(self, images, training=None):
        ranks = self.rank(images)
        places = self.place(ranks)
        training = bool(training)
        if training and self.trainable:
            return self._train(images, ranks, places)
        if len(self.branches) == 1:
            return self.run(images, ranks, 0, self.statistics[0], training)[0]
        return self._each_in_its_branch(images, ranks, places, training)

    def rank(self, images):
        """The share of training images that are less complex, (batch,)."""
        return rank_of(self.complexity(images), self.quantiles)

    def place(self, ranks):
        """Of each rank, the branch that is for it."""
        return level_of(ranks, len(self.branches))

    def _train(self, images, ranks, places):
        """All images in the branch of their median, with statistics of the batch; these are taken up."""
        median = ops.sort(places)[ops.shape(places)[0] // 2]
        outputs, found = self.run(images, ranks, median, training=True)
        if not self.norms:
            return outputs
        mine = ops.cast(ops.arange(len(self.branches)) == median, "float32")[:, None, None]
        self.statistics.assign(
            self.statistics + mine * (1 - MOMENTUM) * (found[None] - self.statistics)
        )
        return outputs

    def _each_in_its_branch(self, images, ranks, places, training):
        """Images in groups; a branch without any does not run. What has no rank, for a pixel is no number, gives none."""
        shape = tuple(self.plan.network.output_shape[1:])
        fixed_sizes = (
            keras.backend.backend() != "tensorflow"
        )  # there all images run in every branch that has any

        def run(place, outputs):
            mine = places == place
            if fixed_sizes:
                found, _ = self.run(
                    images, ranks, place, ops.take(self.statistics, place, axis=0), training
                )
                return ops.where(ops.reshape(mine, (-1, *(1 for _ in shape))), found, outputs)
            import tensorflow as tf

            rows = tf.where(mine)
            part, their_ranks = tf.gather_nd(images, rows), tf.gather_nd(ranks, rows)
            found, _ = self.run(part, their_ranks, place, self.statistics[place], training)
            return tf.tensor_scatter_nd_update(outputs, rows, found)

        def step(place, outputs):
            return ops.cond(ops.any(places == place), lambda: run(place, outputs), lambda: outputs)

        nothing = ops.reshape(
            ops.cast(0.0 * ranks, self.plan.network.outputs[0].dtype), (-1, *(1 for _ in shape))
        )
        start = nothing + ops.zeros(shape, nothing.dtype)
        outputs = ops.fori_loop(0, len(self.branches), step, start)
        return ops.reshape(outputs, (-1, *shape))

    def run(self, images, ranks, place, statistics=None, training=False):
        """One of the networks, chosen when it runs.

        Args:
            images: (batch, height, width, channels). ranks: of their complexity.
            place: of the branch, an integer or a tensor.
            statistics: of its norms, (2, channels of all); None for those of the batch.
            training: what the layers that are not generated are told.

        Returns:
            The output, and the statistics that it was normalised by; those of norms that did not run are the branch's.
        """
        known = ops.take(self.statistics, place, axis=0) if statistics is None else statistics
        complexity = ranks
        if self.branches[0].complexity is not None:
            complexity = ops.reshape(self._of("complexity", "float32", place), (1,))
        state, step = (
            self.ode.initial(complexity),
            self.ode.horizon / self._of("depth", "float32", place),
        )
        values, found, states = {id(self.plan.network.inputs[0]): images}, {}, {}
        most_dropped = max(branch.dropped for branch in self.branches)
        for piece in self.plan.pieces:
            if piece.runs(most_dropped):
                state = self._run_piece(
                    piece, values, state, step, statistics, found, states, training
                )
                continue
            x = values[id(piece.source)]
            norms = [
                i
                for i, norm in enumerate(self.norms)
                if norm.name in {n.operation.name for n in piece.nodes}
            ]

            def run(piece=piece, x=x, state=state, norms=norms):
                inner, used = {id(piece.source): x}, {}
                state = self._run_piece(piece, inner, state, step, statistics, used, {}, training)
                return ops.cast(inner[id(piece.target)], x.dtype), state, [used[i] for i in norms]

            def skip(x=x, state=state, norms=norms):
                return x, state, [known[:, self.parts[i]] for i in norms]

            x, state, used = _either(self._of("dropped", "int32", place) <= piece.turn, run, skip)
            values[id(piece.target)] = x
            found |= dict(zip(norms, used, strict=True))
        rows = [found[i] for i in range(len(self.norms))]
        return values[id(self.plan.network.outputs[0])], ops.concatenate(
            rows, axis=1
        ) if rows else known

    def _run_piece(self, piece, values, state, step, statistics, found, states, training):
        """Runs a piece on `values`; takes up what its norms used in `found`, the states of its convolutions in `states`, and
        returns the state behind it.
        """
        for layer in self.plan.convolutions:
            if layer not in states and any(node.operation is layer for node in piece.nodes):
                state = states[layer] = self.ode.advance(state, step)

        def operation(node):
            layer = node.operation
            if layer in states:
                kernel = self._kernel(layer, states[layer])
                kernel = kernel if self.branches[0].complexity is None else kernel[0]
                return functools.partial(
                    self.convolutions[self.plan.convolutions.index(layer)], kernel=kernel
                )
            return (
                functools.partial(self._normalise, layer, statistics, found)
                if layer in self.plan.norms
                else layer
            )

        graph.run_again(piece.nodes, values, operation, training)
        return state

    def _kernel(self, layer, state):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        return kernel_of(state, tuple(layer.kernel.shape), self.normalise_kernels, depthwise)

    def _normalise(self, layer, statistics, found, x, **unused):
        i = self.plan.norms.index(layer)
        x, found[i] = self.norms[i](
            x, statistics=None if statistics is None else statistics[:, self.parts[i]]
        )
        return x

    def _of(self, name, dtype, place):
        """A property of the branch in a place; a number where the place is one, so that nothing is left to be chosen."""
        if isinstance(place, int):
            return getattr(self.branches[place], name)
        return ops.take(
            ops.convert_to_tensor([getattr(branch, name) for branch in self.branches], dtype), place
        )

    def kernels(self, place, noise=None):
        """The kernels of a branch, by the template's layers; of kernels for each image, those of the middling complexity.

        `noise` is for `KernelODE`.
        """
        branch = self.branches[place]
        layers = self.plan.running(branch.dropped)
        complexity = 0.5 if branch.complexity is None else branch.complexity
        states = self.ode(
            ops.convert_to_tensor([complexity], "float32"), steps=len(layers), noise=noise
        )
        return {
            layer: self._kernel(layer, state)[0]
            for layer, state in zip(layers, states, strict=True)
        }

    def compute_output_spec(self, images, training=None):
        output = self.plan.network.outputs[0]
        return keras.KerasTensor((images.shape[0], *output.shape[1:]), dtype=output.dtype)

    # ---- config

    @property
    def _form(self):
        """What a file's values belong to, beside their shapes; by name."""
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

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["form"] = np.array([*self._form.values()], "int32")

    def load_own_variables(self, store):
        """Refuses the values of another form, with which they would fit and mean something else."""
        own = {key: store[key] for key in store.keys() if key != "form"}
        if "form" in store.keys():
            pairs = zip(self._form.items(), np.asarray(store["form"]).tolist(), strict=True)
            wrong = [
                f"{name} ({theirs} there, {mine} here)"
                for (name, mine), theirs in pairs
                if theirs != mine
            ]
            self._refused = (
                f"these are values of a puppet with another {', '.join(wrong)}" if wrong else None
            )
        if (
            self._refused
        ):  # Keras comes again, by another path where there is nothing, and tells the last error
            raise ValueError(self._refused)
        super().load_own_variables(own)

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.plan.network),
            "adapt": self.adapt,
            "levels": self.levels,
            "normalise_kernels": self.normalise_kernels,
            "ode": self.ode_options,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("network")), **config)


def _either(condition, run, skip):
    if isinstance(condition, bool):
        return run() if condition else skip()
    return ops.cond(condition, run, skip)


def _unknown(shape, dtype=None):
    return ops.linspace(0.0, 1.0, shape[0], dtype=dtype)


def _standard(shape, dtype=None):
    return ops.stack(
        [ops.zeros((shape[0], shape[2]), dtype), ops.ones((shape[0], shape[2]), dtype)], axis=1
    )
