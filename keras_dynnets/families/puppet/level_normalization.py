"""Batch normalization whose statistics are kept outside the layer."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_dynnets")
class LevelNormalization(keras.layers.Layer):
    """Normalises channels without parameters, by given statistics or by those of the batch.

    The activations of a network that runs at several depths differ between the depths. Its
    statistics are therefore kept for each level, by the layer that holds this one.

    Args:
        epsilon: number that is added to the variance.

    Call arguments:
        inputs: (batch, ..., channels).
        statistics: mean and variance of the channels, (2, channels); None for those of the batch.

    Output: the normalised inputs, and the statistics that they are normalised by, (2, channels).

    Example:
        >>> outputs, statistics = LevelNormalization()(keras.ops.ones((4, 8, 8, 3)))
        >>> tuple(statistics.shape)
        (2, 3)
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs, autocast=False)  # statistics stay in float32
        self.epsilon = epsilon

    def call(self, inputs: Any, statistics: Any = None) -> tuple[Any, Any]:
        inputs = ops.cast(inputs, self.compute_dtype)
        fusable = self.compute_dtype in ("float32", "float16", "bfloat16")
        if fusable and keras.backend.backend() == "tensorflow" and len(inputs.shape) == 4:
            return self._fused(inputs, statistics)
        if statistics is None:
            axes = list(range(len(inputs.shape) - 1))
            statistics = ops.stack(ops.moments(ops.cast(inputs, "float32"), axes))
        used = ops.cast(statistics, inputs.dtype)
        return (inputs - used[0]) * ops.rsqrt(used[1] + self.epsilon), statistics

    def _fused(self, inputs: Any, statistics: Any) -> tuple[Any, Any]:
        """Uses TensorFlow's own kernel, which is four times as fast on a CPU."""
        import tensorflow as tf

        kernel = tf.compat.v1.nn.fused_batch_norm
        channels = inputs.shape[-1]
        ones, zeros = ops.ones((channels,)), ops.zeros((channels,))
        if statistics is not None:
            mean, variance = statistics[0], statistics[1]
            return kernel(
                inputs, ones, zeros, mean, variance, epsilon=self.epsilon, is_training=False
            )[0], statistics
        outputs, mean, variance = kernel(inputs, ones, zeros, epsilon=self.epsilon)
        # The kernel gives the variance of a sample, and Keras keeps that of the population.
        count = tf.cast(tf.size(inputs) / channels, "float32")
        variance = variance * (count - 1) / count
        return outputs, tf.stack([mean, variance])

    def compute_output_spec(self, inputs: Any, statistics: Any = None) -> tuple[Any, Any]:
        return inputs, keras.KerasTensor((2, inputs.shape[-1]), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
