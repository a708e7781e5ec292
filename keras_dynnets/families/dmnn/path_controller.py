"""The layer that decides which sub-blocks of a block run."""

import contextlib
import contextvars
import types
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_dynnets.core import cost
from keras_dynnets.core.conditional import DecidesGates
from keras_dynnets.core.cost import Costed
from keras_dynnets.core.deployable import Deployable, Deployer
from keras_dynnets.core.freezing import KeepsFrozen
from keras_dynnets.families.dmnn.gumbel_gate import GumbelGate

_HAS_LOSS: contextvars.ContextVar = contextvars.ContextVar("has_loss", default=False)


@contextlib.contextmanager
def with_resource_loss() -> Iterator[None]:
    """Tells the controllers that run in a `with` block that their gates have a resource loss."""
    token = _HAS_LOSS.set(True)
    try:
        yield
    finally:
        _HAS_LOSS.reset(token)


class ExactDense(keras.layers.Dense):
    """A fully connected layer that `quantize` of a model around it leaves as it is.

    The least change of a controller's logits changes which sub-blocks run.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # In place of Keras's own, which refuses a layer without weights: the first controller of a
        # network has one.
        self.quantize = self._not_quantized

    def _not_quantized(self, mode: Any = None, **options: Any) -> None:
        """Refuses, upon which Keras warns and goes on to the next layer."""
        raise NotImplementedError(f"{self.path} decides what runs and is not quantized")


@keras.saving.register_keras_serializable(package="keras_dynnets")
class PathController(KeepsFrozen, DecidesGates, Deployable, Costed, keras.layers.Layer):
    """Decides for each image which sub-blocks of a block run.

    The layer averages the block's input over height and width (equation 5), maps it to a small
    vector (equation 6) and adds the mapped state of the controller before it (equation 7). The
    sum is its own state. The state gives two logits, for (skip, execute), to each sub-block, and
    `GumbelGate` turns them into gates (equation 8):

        z = mean of x over height and width
        h = relu(W1 z + b1) + relu(W2 h_previous)
        gates = GumbelGate(W3 h + b3)

    Deviations from the paper:

    - Equations 6 and 7 leave out biases "for simplicity". Here W1 has a bias and W2 has none.
      Each controller has a W2 of its own. The parameter counts of the paper allow both.
    - Equation 7 does not say what the first controller takes as the previous state. Here it has
      no W2, and its state is the first term alone.
    - The paper does not say how b3 of equation 8 starts. Here it starts at 0.1 for "skip" and 2.0
      for "execute", as in ConvNet-AIG (arXiv 1711.11503), on which the paper builds. A training
      therefore starts with nearly every sub-block on.

    Args:
        sub_blocks: number of gates, an integer of 1 or more.
        units: size of the state, an integer of 1 or more. The paper's value is 32.
        noise: scale of the Gumbel noise, see `GumbelGate`.
        logits_stddev: standard deviation of the values of W3 at the start of a training. With the
            default, a controller decides the same for every image at first. A short training of a
            shallow network gains from 0.2: with 0.001 it ended with every second gate open for
            half of the images, by noise alone. A deep network would start with closed gates at
            0.2.
        seed: seed of the Gumbel noise, see `GumbelGate`.

    Call arguments:
        inputs: the block's input, (batch, height, width, channels), or with the channels first
            where Keras is configured so.
        state: the state of the controller before, (batch, units); None for the first one.
        forced: values to add to the difference between the logits for "execute" and for "skip",
            (batch, sub_blocks); None for nothing. A value of 1e4 opens a gate and -1e4 closes it,
            while the controller still does all its work. The gates then have no noise and no
            gradient.

    Output shape: gates (batch, sub_blocks) of exactly 0.0 or 1.0, and the state (batch, units).

    Raises:
        ValueError: `sub_blocks` or `units` is below 1.

    Example:
        >>> gates, state = PathController(sub_blocks=2)(keras.ops.ones((4, 8, 8, 16)))
        >>> gates.shape, state.shape
        ((4, 2), (4, 32))

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949, section 3.2,
    equations 5 to 8.
    """

    def __init__(
        self,
        sub_blocks: int,
        units: int = 32,
        noise: float = 1.0,
        logits_stddev: float = 0.001,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if sub_blocks < 1 or units < 1:
            raise ValueError(
                f"sub_blocks and units must be 1 or more, not {sub_blocks} and {units}"
            )
        self.sub_blocks = sub_blocks
        self.units = units
        self.logits_stddev = logits_stddev
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool", dtype=self.dtype_policy)
        self.embed_input = ExactDense(units, "relu", name="embed_input", dtype=self.dtype_policy)
        self.embed_state = ExactDense(
            units, "relu", use_bias=False, name="embed_state", dtype=self.dtype_policy
        )
        self.logits = self._logits_layer()
        # A namespace is hidden from Keras's saving.
        self.notice = types.SimpleNamespace(given=False)
        self.gate = GumbelGate(noise, seed, name="gate", dtype=self.dtype_policy)

    def _logits_layer(self) -> keras.layers.Dense:
        """Gives the layer from the state to the logits."""
        return ExactDense(
            2 * self.sub_blocks,
            kernel_initializer=keras.initializers.RandomNormal(stddev=self.logits_stddev),
            bias_initializer=_nearly_on,
            name="logits",
            dtype=self.dtype_policy,
        )

    def build(
        self,
        inputs_shape: tuple,
        state_shape: tuple | None = None,
        forced_shape: tuple | None = None,
    ) -> None:
        self.has_state = state_shape is not None
        self.pool.build(inputs_shape)
        self.embed_input.build((None, self.pool.compute_output_shape(inputs_shape)[-1]))
        if self.has_state:
            self.embed_state.build((None, self.units))
        self.logits.build((None, self.units))
        self.gate.build((None, self.sub_blocks, 2))
        self.freeze_again()

    def call(
        self, inputs: Any, state: Any = None, forced: Any = None, training: bool | None = None
    ) -> tuple[Any, Any]:
        if training:
            self._warn_without_loss()
        new_state = self._state(inputs, state, training)
        if training and forced is None:
            logits = ops.reshape(self.logits(new_state), (-1, self.sub_blocks, 2))
            return self.gate(logits, training=True), new_state
        advantage = self._advantage(new_state, forced)
        return ops.cast(advantage > 0, self.compute_dtype), new_state

    def _warn_without_loss(self) -> None:
        """Says once for a network that its gates train without a resource loss.

        The first controller of a network, which gets no state, says it for all.
        """
        if _HAS_LOSS.get() or not self.trainable or self.has_state or self.notice.given:
            return
        self.notice.given = True
        warnings.warn(
            f"the gates of {self.name} and of the controllers after it train without a resource "
            "loss, so nothing keeps the network's work near its target: call the whole model, "
            "which adds the loss; for another number of classes make it with "
            "zoo.load(..., num_classes=...); or freeze the controllers (trainable = False)",
            stacklevel=2,
        )

    def scores(self, inputs: Any, state: Any = None, forced: Any = None) -> Any:
        return self._advantage(self._state(inputs, state, False), forced)

    def _state(self, inputs: Any, state: Any, training: bool | None) -> Any:
        """Gives the controller's own state, (batch, units)."""
        new_state = self.embed_input(self._pooled(inputs, training))
        return new_state if state is None else new_state + self.embed_state(state)

    def _advantage(self, state: Any, forced: Any) -> Any:
        """Gives the logits for "execute" minus those for "skip", (batch, sub_blocks)."""
        kernel, bias = self._difference()
        advantage = ops.matmul(state, kernel) + bias
        return advantage if forced is None else advantage + forced

    def _difference(self) -> tuple[Any, Any]:
        """Gives the kernel and the bias of the difference of the two logits.

        Without noise only this difference counts, so half the products will do.
        """
        kernel, bias = self.logits.kernel, self.logits.bias
        return kernel[:, 1::2] - kernel[:, ::2], bias[1::2] - bias[::2]

    def deployed(self, deployer: Deployer) -> "DeployedController":
        copy = DeployedController(self.sub_blocks, self.units, name=self.name, dtype="float32")
        own = self.embed_state.get_weights() if self.has_state else []
        difference = [ops.convert_to_numpy(v) for v in self._difference()]
        return deployer.holding(copy, [*self.embed_input.get_weights(), *own, *difference])

    def _pooled(self, inputs: Any, training: bool | None) -> Any:
        """Gives the mean over height and width, (batch, channels)."""
        one_pass = (
            keras.backend.backend() == "tensorflow" and self.pool.data_format == "channels_last"
        )
        if training or not one_pass or inputs.shape[0] == 1 or None in inputs.shape[1:]:
            return self.pool(inputs)
        # TensorFlow's mean over two axes takes 5.5 ms at (16, 56, 56, 256), this pooling 2.4 ms.
        pooled = ops.average_pool(inputs, inputs.shape[1:3], data_format="channels_last")
        return ops.reshape(pooled, (-1, inputs.shape[-1]))

    def compute_output_spec(
        self, inputs: Any, state: Any = None, forced: Any = None, training: bool | None = None
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        gates, new_state = (
            keras.KerasTensor((inputs.shape[0], width), dtype=self.compute_dtype)
            for width in (self.sub_blocks, self.units)
        )
        return gates, new_state

    def macs(self, input_shape: tuple) -> int:
        """Counts the MACs of the decision for one image, in inference.

        Args:
            input_shape: (batch, height, width, channels) of the block's input.
        """
        channels = self.pool.compute_output_shape(input_shape)[-1]
        own = self.units if self.has_state else 0
        return cost.dense_macs(channels + own + self.sub_blocks, self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sub_blocks": self.sub_blocks,
            "units": self.units,
            "noise": self.gate.noise,
            "logits_stddev": self.logits_stddev,
            "seed": self.gate.seed,
        }


class DeployedController(PathController):
    """A controller for inference only, which holds the difference of its logits as weights.

    Converters compute this difference once, when they write a file. A file with weights in half
    precision would round the difference, and Keras the logits before it.

    It stands in networks that are deployed and is never saved.
    """

    def _logits_layer(self) -> keras.layers.Dense:
        return keras.layers.Dense(self.sub_blocks, name="logits", dtype=self.dtype_policy)

    def _difference(self) -> tuple[Any, Any]:
        return self.logits.kernel, self.logits.bias


def _nearly_on(shape: tuple, dtype: Any = None) -> Any:
    """Initialises the pairs of biases so that "execute" has the larger one."""
    return ops.tile(ops.cast([0.1, 2.0], dtype), shape[0] // 2)
