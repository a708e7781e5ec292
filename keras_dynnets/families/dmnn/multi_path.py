"""The layer that runs the sub-blocks of a block that are open for each image."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_dynnets.core import cost
from keras_dynnets.core.conditional import GatedBranches
from keras_dynnets.core.cost import Costed
from keras_dynnets.core.deployable import Deployable, Deployer


@keras.saving.register_keras_serializable(package="keras_dynnets")
class MultiPath(GatedBranches, Costed, Deployable, keras.layers.Layer):
    """Adds to a shortcut those of several paths whose gates are open (equation 4).

    For image b of a batch, `output[b] = shortcut[b] + sum_n gates[b, n] * paths[n](inputs)[b]`.
    There are three ways to compute this sum:

    - "masked": every path runs on every image, and its result is multiplied by its gate. This
      saves no time. Training needs it: the gradient of a closed gate depends on the result of its
      path, and batch norm must see every image.
    - "sparse" (TensorFlow only): a path runs on the images of the batch whose gate is open. They
      are gathered before the path and scattered back after it. A path that no image needs does
      not run.
    - "conditional": every path stands behind a condition. This takes batches of one image; where
      the batch size is not known in advance, the layer runs as "sparse".

    Two more values of `execution` choose among them or leave out the gates:

    - "auto": "masked" in training. In inference "conditional" if the batch size is known to be 1
      and otherwise "sparse"; on a backend other than TensorFlow, "masked" instead of "sparse".
    - "all": every path runs and the gates are ignored. Savings are measured against this, and
      exporters start from it.

    With "sparse" a training runs faster too, but a closed gate then gets no gradient from the path
    behind it. Use it to fine-tune a network whose controllers are frozen.

    Deviation from the paper: equation 4 adds to the block's input itself. Here `shortcut` is an
    argument, because a block that changes the shape of its input has a 1x1 convolution and a
    batch norm as its shortcut, as in ResNet.

    Args:
        paths: layers, usually `keras.Sequential`, each from `inputs` to the shape of `shortcut`.
        execution: "auto", "masked", "sparse", "conditional" or "all".

    Call arguments:
        inputs: (batch, height, width, channels).
        gates: 0 or 1 for each image and path, (batch, paths), as `PathController` gives them.
        shortcut: what the results of the paths are added to, of the same shape as they are.

    Output shape: that of `shortcut`.

    Raises:
        ValueError: there are no paths, `execution` is unknown, there are not as many gates as
            paths, or "conditional" gets a batch of several images.

    Example:
        >>> layer = MultiPath([keras.layers.Conv2D(5, 1), keras.layers.Conv2D(5, 1)])
        >>> gates = keras.ops.convert_to_tensor([[1.0, 0.0], [0.0, 0.0]])
        >>> layer(keras.ops.ones((2, 8, 8, 3)), gates, keras.ops.zeros((2, 8, 8, 5))).shape
        (2, 8, 8, 5)

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949, sections 3.1 and
    3.2, equation 4.
    """

    def __init__(self, paths: Sequence[keras.Layer], execution: str = "auto", **kwargs: Any):
        super().__init__(**kwargs)
        if not paths:
            raise ValueError(
                "MultiPath needs at least one path, a layer from the input to the shortcut's shape"
            )
        self.paths = list(paths)
        self.execution = execution
        # TensorFlow's XLA needs static shapes, which "sparse" does not have. On JAX everything is
        # compiled by XLA, and the layer runs as "masked".
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, inputs_shape: tuple, gates_shape: tuple, shortcut_shape: tuple) -> None:
        count = len(self.paths)
        if gates_shape[-1] != count:
            raise ValueError(
                f"{count} paths need gates of shape (batch, {count}), not {gates_shape}"
            )
        self.inputs_shape = tuple(inputs_shape)
        for path in self.paths:
            if not path.built:
                path.build(inputs_shape)

    def call(self, inputs: Any, gates: Any, shortcut: Any, training: bool | None = None) -> Any:
        form = self._form(inputs, training)
        if form == "conditional" and inputs.shape[0] not in (1, None):
            raise ValueError(
                f"execution='conditional' takes one image a call, not {inputs.shape[0]}; use "
                "execution='sparse' for batches"
            )
        every = range(len(self.paths))
        if form == "masked":
            return self._add_masked(every, inputs, gates, shortcut, training)
        if form == "all":
            return self._add_all(inputs, shortcut, training)
        shortcut = self._add_masked(self.always, inputs, gates, shortcut, training)
        gated = [n for n in every if n not in self.always]
        run = self._add_conditional if form == "conditional" else self._add_sparse
        return run(gated, inputs, gates, shortcut, training) if gated else shortcut

    def _form(self, inputs: Any, training: bool | None) -> str:
        """Gives the execution for this call: "masked", "sparse", "conditional" or "all"."""
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if self.execution == "conditional" and inputs.shape[0] is None and on_tensorflow:
            return "sparse"  # a condition has one answer, and the batch may hold several images
        if self.execution != "auto":
            return self.execution
        if training:
            return "masked"
        if inputs.shape[0] == 1:
            return "conditional"
        return "sparse" if on_tensorflow else "masked"

    def _add_all(self, inputs: Any, output: Any, training: bool | None) -> Any:
        for n, path in enumerate(self.paths):
            # The exports find the additions by the name of this scope.
            with keras.name_scope(self.branch_scope(n)):
                output = output + path(inputs, training=training)
        return output

    # Each of the next three adds the paths of the given indices to `output`.

    def _add_masked(
        self, indices: Sequence[int], inputs: Any, gates: Any, output: Any, training: bool | None
    ) -> Any:
        for n in indices:
            gate = ops.reshape(gates[:, n], (-1, 1, 1, 1))
            output = output + gate * self.paths[n](inputs, training=training)
        return output

    def _add_conditional(
        self, indices: Sequence[int], inputs: Any, gates: Any, output: Any, training: bool | None
    ) -> Any:
        # Of the gates of several images this makes an error, in an exported file too, where a batch
        # can be resized. `gates[0, n]` would let the first image decide for all.
        is_open = ops.reshape(gates, (len(self.paths),)) > 0.5
        for n in indices:
            path = self.paths[n]
            output = ops.cond(
                is_open[n],
                lambda path=path, output=output: output + path(inputs, training=training),
                lambda output=output: output,
            )
        return output

    def _add_sparse(
        self, indices: Sequence[int], inputs: Any, gates: Any, output: Any, training: bool | None
    ) -> Any:
        is_open = gates > 0.5
        if self.always:
            is_open = ops.take(is_open, indices, axis=1)
        for n in range(0, len(indices), 2):
            pair = [self.paths[index] for index in indices[n : n + 2]]
            output = self._add_two_sparse(pair, inputs, is_open[:, n : n + 2], output, training)
        return output

    @staticmethod
    def _add_two_sparse(
        paths: list, inputs: Any, is_open: Any, output: Any, training: bool | None
    ) -> Any:
        """Adds one or two paths, with one gather of images for both.

        The gathered images are in this order: those that only the first path needs, those that
        both need, those that only the second needs. Each path then runs on a slice of consecutive
        images, which needs no further copy.
        """
        import tensorflow as tf

        def count(condition: Any) -> Any:
            return tf.math.count_nonzero(condition, dtype="int32")

        first, second = is_open[:, 0], is_open[:, -1] & (len(paths) == 2)
        rank = tf.where(first, tf.where(second, 1, 0), tf.where(second, 2, 3))
        only_first, by_first, by_any = count(rank < 1), count(rank < 2), count(rank < 3)
        everything = tf.reduce_all(is_open)
        rows = tf.argsort(rank, stable=True)[:by_any]
        x = tf.cond(everything, lambda: inputs, lambda: tf.gather(inputs, rows))
        nothing = tf.zeros((0, *output.shape[1:]), output.dtype)

        def run(path: keras.Layer, images: Any) -> Any:
            # TensorFlow's fused convolutions fail on an empty batch, so this also avoids an error.
            return tf.cond(
                tf.shape(images)[0] > 0, lambda: path(images, training=training), lambda: nothing
            )

        results = [(rows[:by_first], run(paths[0], x[:by_first]))]
        if len(paths) == 2:
            results.append((rows[only_first:], run(paths[1], x[only_first:])))

        def complete() -> Any:
            return sum((result for _, result in results), output)

        def scattered() -> Any:
            total = output
            for at, result in results:
                total = tf.tensor_scatter_nd_add(total, at[:, None], result)
            return total

        total = tf.cond(everything, complete, scattered)
        total.set_shape(
            output.shape
        )  # tf.ensure_shape would be an operation, unknown to converters
        return total

    def compute_output_spec(
        self, inputs: Any, gates: Any, shortcut: Any, training: bool | None = None
    ) -> keras.KerasTensor:
        return keras.KerasTensor(shortcut.shape, dtype=self.compute_dtype)

    def inner_calls(self, input_shape: tuple) -> list[tuple[keras.Layer, tuple]]:
        return [(path, input_shape) for path in self.paths]

    def optional_macs(self, input_shape: tuple) -> tuple[int, ...]:
        return tuple(cost.layer_macs(path, input_shape) for path in self.paths)

    def deployed(self, deployer: Deployer) -> "MultiPath":
        paths = [deployer.chain(path) for path in self.paths]
        copy = MultiPath(paths, deployer.execution, name=self.name, dtype="float32")
        copy.always = self.cheap_branches(deployer.runs_always)
        return copy

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "paths": [keras.saving.serialize_keras_object(path) for path in self.paths],
            "execution": self.execution,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiPath":
        paths = [keras.saving.deserialize_keras_object(path) for path in config.pop("paths")]
        return cls(paths=paths, **config)
