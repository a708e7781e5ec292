import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GumbelGate(keras.layers.Layer):
    """Hard on/off gates from logits, with a gradient (DMNN, eq. 8).

    The gate is `argmax(softmax(g + Gumbel(0, 1)))` over the pair of logits
    (skip, execute); index 1 means execute. The output holds exact zeros and
    ones, its gradient is that of the softmax (straight-through). Noise is drawn
    only while the layer trains: not in inference, and not when it is frozen
    (`trainable = False`), as with batch norm.

    Deviations from the paper, which is silent on both: temperature 1, and
    `noise`, which scales the Gumbel noise, so that the last epochs of a training
    can meet the gates of inference.

    Args:
        noise: scale of the Gumbel noise, 0 or more. 1 is the paper's.
        seed: seed of the noise; an integer makes a training repeatable.

    Input shape: (batch, gates, 2), logits for (skip, execute).

    Output shape: (batch, gates), values 0.0 or 1.0.

    Raises:
        ValueError: negative `noise`, or an input whose last axis is not 2.

    Example:
        >>> logits = keras.ops.convert_to_tensor([[[0.0, 1.0], [2.0, 1.0]]])
        >>> GumbelGate()(logits)
        [[1., 0.]]

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949, section 3.2.
    """

    def __init__(self, noise=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if noise < 0:
            raise ValueError(
                f"noise is the scale of the Gumbel noise and must be 0 or more, not {noise}"
            )
        self.noise = noise
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] != 2:
            raise ValueError(
                f"GumbelGate takes logits of shape (batch, gates, 2), not {tuple(input_shape)}"
            )
        self.built = True

    def call(self, logits, training=None):
        # float32: in half precision the noise of a near-certain gate would overflow or vanish.
        logits = ops.cast(logits, "float32")
        noisy = training and self.trainable and self.noise > 0
        if noisy:
            uniform = keras.random.uniform(
                ops.shape(logits), 1e-7, 1.0 - 1e-7, "float32", self.seed_generator
            )
            logits = logits - self.noise * ops.log(-ops.log(uniform))
        hard = ops.cast(logits[..., 1] > logits[..., 0], "float32")
        if training:
            soft = ops.softmax(logits)[..., 1]
            hard = hard + (soft - ops.stop_gradient(soft))
        return ops.cast(hard, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[:-1])

    def get_config(self):
        return {**super().get_config(), "noise": self.noise, "seed": self.seed}
