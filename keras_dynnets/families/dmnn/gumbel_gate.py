"""The layer that turns logits into hard gates."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GumbelGate(keras.layers.Layer):
    """Turns pairs of logits into gates of exactly 0 or 1 that pass a gradient on.

    A gate is 1 if the logit for "execute" is larger than the logit for "skip" (equation 8). In
    training, Gumbel noise is added to both logits first, so that a gate opens with the probability
    that a softmax over its pair gives. The gradient of a gate is that of this softmax
    (straight-through estimator). As batch norm does, the layer behaves as in inference, without
    noise, while it is frozen (`trainable = False`).

    Deviations from the paper:

    - Equation 8 does not say how a gradient passes the argmax. Here it is the gradient of the
      softmax with noise, at temperature 1.
    - `noise` scales the term Δ of equation 8. The paper has no such factor. With noise 0 in its
      last epochs, a training sees the gates that inference will have.

    Args:
        noise: scale of the Gumbel noise, a float of 0 or more. The paper's value is 1.
        seed: seed of the noise. With an integer, a training repeats exactly.

    Input shape: (batch, gates, 2), the logits for (skip, execute) of each gate.

    Output shape: (batch, gates), values 0.0 or 1.0.

    Raises:
        ValueError: `noise` is negative, or the last axis of the input does not have size 2.

    Example:
        >>> logits = keras.ops.convert_to_tensor([[[0.0, 1.0], [2.0, 1.0]]])
        >>> GumbelGate()(logits)
        [[1., 0.]]

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949, section 3.2,
    equation 8.
    """

    def __init__(self, noise: float = 1.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if noise < 0:
            raise ValueError(
                f"noise is the scale of the Gumbel noise and must be 0 or more, not {noise}"
            )
        self.noise = noise
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple) -> None:
        if len(input_shape) != 3 or input_shape[-1] != 2:
            raise ValueError(
                f"GumbelGate takes logits of shape (batch, gates, 2), not {tuple(input_shape)}"
            )
        self.built = True

    def call(self, logits: Any, training: bool | None = None) -> Any:
        # In half precision the noise of a nearly certain gate would overflow or vanish.
        logits = ops.cast(logits, "float32")
        if training and self.trainable and self.noise > 0:
            uniform = keras.random.uniform(
                ops.shape(logits), 1e-7, 1.0 - 1e-7, "float32", self.seed_generator
            )
            logits = logits - self.noise * ops.log(-ops.log(uniform))
        hard = ops.cast(logits[..., 1] > logits[..., 0], "float32")
        if training:
            soft = ops.softmax(logits)[..., 1]
            hard = hard + (soft - ops.stop_gradient(soft))
        return ops.cast(hard, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape[:-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise": self.noise, "seed": self.seed}
