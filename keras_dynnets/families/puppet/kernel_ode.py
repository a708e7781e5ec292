"""The puppeteer: a differential equation that generates the kernels of a whole network."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.families.puppet.noise import seeded_noise

STATES = ("noise", "rank_one", "constant")
METHODS = ("euler", "midpoint", "rk4")
ROTATION = np.pi / 4  # of the initial state, from complexity 0 to complexity 1
EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="keras_dynnets")
class KernelODE(keras.layers.Layer):
    """Generates one state for each layer of a network, from which the layer's kernel is computed.

    The states solve `dP/dl = G(P)` (equation 6). It is integrated from l = 0 to `horizon` in as
    many equal steps as the network has generated layers, by default with the Euler method
    (equation 7). G is a depthwise-separable convolution followed by batch norm and tanh (section
    3.5); it treats the input channels of a kernel as a batch of images, whose channels are the
    kernel's output channels.

    Deviations from the paper:

    - G is a depthwise 3x3 convolution, batch norm, a pointwise convolution, batch norm and tanh.
      Section 3.5 mentions one batch norm. With two of them G has C^2 + 15 C trainable values,
      which reproduces the seven sizes in table 5.
    - Batch norm takes its statistics from the state itself, in inference too: there is one state,
      and no average over all steps fits any of them.
    - The initial state is noise by default. The paper fills it with one value that depends on the
      complexity (equation 11, whose exact form we could not read). From such a state G generates
      the same kernel for all input channels at every step, and a network of these does not learn.
      `state="constant"` does so with the complexity itself as the value.

    Args:
        channels: C, the largest number of channels that a convolution of the network reads or
            writes.
        kernel_size: k, the side of the network's largest kernel.
        state: the initial state. "noise": noise from a seed, which is not stored; the complexity
            rotates it towards a second noise, by 45 degrees from complexity 0 to complexity 1.
            "rank_one": the outer product of learned vectors, 3 C + k^2 values. "constant": one
            value everywhere, the complexity.
        method: "euler", "midpoint" or "rk4" (the classical Runge-Kutta method of order 4).
        horizon: end of the integration, a positive number.
        seed: seed of the noise, and of the initial values of "rank_one".

    Call arguments:
        complexity: (batch,) in [0, 1].
        steps: number of steps and of states, an integer.
        noise: noise to use in place of the seed's own, (2, C, k, k, C), for graphs that compute
            it themselves (see `seeded_noise`); None for the layer's own.

    Output: a list of `steps` states, each (batch, C, k, k, C): input channels, height and width
    of the kernel, output channels.

    Raises:
        ValueError: an unknown state or method, a size below 1, or a horizon that is not positive.

    Example:
        >>> states = KernelODE(channels=8)(keras.ops.convert_to_tensor([0.5]), steps=3)
        >>> [tuple(state.shape) for state in states]
        [(1, 8, 3, 3, 8), (1, 8, 3, 3, 8), (1, 8, 3, 3, 8)]

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, sections 3.3 to 3.5, equations 6, 7
    and 11.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        state: str = "noise",
        method: str = "euler",
        horizon: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if channels < 1 or kernel_size < 1 or not horizon > 0:
            raise ValueError(
                "channels and kernel_size are 1 or more and horizon is positive, not "
                f"{channels}, {kernel_size} and {horizon}"
            )
        if state not in STATES or method not in METHODS:
            raise ValueError(
                f"state is one of {', '.join(STATES)} and method one of {', '.join(METHODS)}, not "
                f"{state!r} and {method!r}"
            )
        self.channels = channels
        self.kernel_size = kernel_size
        self.state = state
        self.method = method
        self.horizon = horizon
        self.seed = seed

    def build(self, *shapes: Any) -> None:
        c, k = self.channels, self.kernel_size
        self.depthwise = self.add_weight((3, 3, c, 1), "glorot_uniform", name="depthwise")
        self.depthwise_bias = self.add_weight((c,), "zeros", name="depthwise_bias")
        self.gamma1 = self.add_weight((c,), "ones", name="gamma1")
        self.beta1 = self.add_weight((c,), "zeros", name="beta1")
        self.pointwise = self.add_weight((c, c), "glorot_uniform", name="pointwise")
        self.pointwise_bias = self.add_weight((c,), "zeros", name="pointwise_bias")
        self.gamma2 = self.add_weight((c,), "ones", name="gamma2")
        self.beta2 = self.add_weight((c,), "zeros", name="beta2")
        if self.state == "rank_one":
            normal = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
            self.inputs_factor = self.add_weight((c,), normal, name="inputs_factor")
            self.outputs_factor = self.add_weight((c,), normal, name="outputs_factor")
            self.complexity_factor = self.add_weight((c,), "zeros", name="complexity_factor")
            self.plane_factor = self.add_weight((k * k,), "ones", name="plane_factor")
        elif self.state == "noise":
            # A constant and not a weight, because a file need not hold what a seed gives.
            positions = np.arange(self.noise_size, dtype="int64")
            self._noise = (
                seeded_noise(positions, self.seed).astype("float32").reshape(self.noise_shape)
            )

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the two noises between which the initial state rotates, (2, C, k, k, C)."""
        return (2, self.channels, self.kernel_size, self.kernel_size, self.channels)

    @property
    def noise_size(self) -> int:
        """Number of values of the two noises."""
        return math.prod(self.noise_shape)

    def call(self, complexity: Any, steps: int, noise: Any = None) -> list[Any]:
        state = self.initial(complexity, noise)
        step = self.horizon / steps
        states = []
        for _ in range(steps):
            state = self.advance(state, step)
            states.append(state)
        return states

    def compute_output_spec(
        self, complexity: Any, steps: int, noise: Any = None
    ) -> list[keras.KerasTensor]:
        shape = (complexity.shape[0], *self.noise_shape[1:])
        return [keras.KerasTensor(shape, dtype="float32") for _ in range(steps)]

    def initial(self, complexity: Any, noise: Any = None) -> Any:
        """Computes the initial state of each complexity (equation 11 for the state "constant").

        Args:
            complexity: (batch,) in [0, 1].
            noise: see the class.

        Returns:
            (batch, C, k, k, C).
        """
        c, k = self.channels, self.kernel_size
        complexity = ops.reshape(complexity, (-1, 1, 1, 1, 1))
        if self.state == "constant":
            return complexity * ops.ones((1, c, k, k, c))
        if self.state == "noise":
            angle = ROTATION * (complexity - 0.5)
            noise = self._noise if noise is None else noise
            first, second = (ops.convert_to_tensor(noise[i][None]) for i in range(2))
            return ops.cos(angle) * first + ops.sin(angle) * second
        outputs = self.outputs_factor + (complexity - 0.5) * self.complexity_factor
        plane = ops.reshape(self.plane_factor, (k, k, 1))
        return ops.reshape(self.inputs_factor, (c, 1, 1, 1)) * plane * outputs

    def advance(self, state: Any, step: Any) -> Any:
        """Computes the state one step later, by the layer's method (equation 7 for "euler").

        Args:
            state: (batch, C, k, k, C).
            step: length of the step.

        Returns:
            (batch, C, k, k, C).
        """
        return state + step * self._slope(state, step)

    def _slope(self, state: Any, step: Any) -> Any:
        """Computes the derivative that the method uses for a step."""
        first = self.derivative(state)
        if self.method == "euler":
            return first
        second = self.derivative(state + 0.5 * step * first)
        if self.method == "midpoint":
            return second
        third = self.derivative(state + 0.5 * step * second)
        fourth = self.derivative(state + step * third)
        return (first + 2.0 * second + 2.0 * third + fourth) / 6.0

    def derivative(self, state: Any) -> Any:
        """Computes G of states.

        Args:
            state: (batch, C, k, k, C).

        Returns:
            (batch, C, k, k, C), in (-1, 1).
        """
        c, k = self.channels, self.kernel_size
        planes = ops.reshape(state, (-1, k, k, c))
        x = (
            ops.depthwise_conv(planes, self.depthwise, padding="same", data_format="channels_last")
            + self.depthwise_bias
        )
        x = _normalised(ops.reshape(x, (-1, c * k * k, c)), self.gamma1, self.beta1)
        x = _normalised(
            ops.matmul(x, self.pointwise) + self.pointwise_bias, self.gamma2, self.beta2
        )
        return ops.reshape(ops.tanh(x), (-1, c, k, k, c))

    def get_config(self) -> dict[str, Any]:
        names = ("channels", "kernel_size", "state", "method", "horizon", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _normalised(x: Any, gamma: Any, beta: Any) -> Any:
    """Applies batch norm to states, (batch, positions, channels), each by its own statistics."""
    mean, variance = ops.moments(x, axes=[1], keepdims=True)
    return (x - mean) * (ops.rsqrt(variance + EPSILON) * gamma) + beta
