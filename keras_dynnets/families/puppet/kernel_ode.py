"""The puppeteer: a differential equation that generates the kernels of a whole network."""

import math

import keras
import numpy as np
from keras import ops

STATES = ("noise", "rank_one", "constant")
METHODS = ("euler", "midpoint", "rk4")
TURN = np.pi / 4  # of the initial state, from the least to the most complex image
EPSILON = 1e-5
PRIME = 2**31 - 1


@keras.saving.register_keras_serializable(package="keras_dynnets")
class KernelODE(keras.layers.Layer):
    """States of a differential equation, one for each layer of a network to take its kernel from (Puppet-CNN, eq. 3-5).

    `dP/dl = G(P)`, integrated from l = 0 to `horizon` in as many equal steps as the network has layers. G is a
    depthwise-separable convolution with batch norm and tanh: depthwise 3x3 on the plane of a kernel, batch norm,
    pointwise from output channels to output channels, batch norm, tanh; C^2 + 15 C values (derived from the
    paper's seven sizes). Input channels are what a convolution calls its batch.

    Deviations from the paper. Batch norm takes its statistics from the state, in inference too: there is one state, and
    averages over all steps fit none of them. The paper's initial state is one value everywhere, the complexity of the
    image; G then gives all input channels the same kernels for ever, and a network of such does not learn.

    Args:
        channels: C, the most channels that a convolution of the network reads or writes.
        kernel_size: side of its largest kernel.
        state: the initial one. "noise": seeded, not stored; complexity turns it towards a second noise, by 45 degrees
            from the least to the most. "rank_one": outer product of learned vectors, 3 C + k^2
            values. "constant": the paper's.
        method: "euler", "midpoint" or "rk4" (the classical Runge-Kutta method).
        horizon: where the integration ends.
        seed: of the noise.

    Call arguments:
        complexity: (batch,) in [0, 1].
        steps: how many, an integer.
        noise: in place of the seed's own, (2, C, k, k, C); for graphs that are to make it themselves (see `seeded_noise`).

    Output: a list of `steps` states, each (batch, C, k, k, C): input channels, the kernel's plane, output channels.

    Raises:
        ValueError: an unknown state or method, or sizes below 1.

    Reference: Ma et al., Puppet-CNN, arXiv 2411.12876.
    """

    def __init__(
        self, channels, kernel_size=3, state="noise", method="euler", horizon=1.0, seed=0, **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if channels < 1 or kernel_size < 1 or not horizon > 0:
            raise ValueError(
                f"channels and kernel_size are 1 or more and horizon is positive, not {channels}, {kernel_size} and {horizon}"
            )
        if state not in STATES or method not in METHODS:
            raise ValueError(
                f"state is one of {', '.join(STATES)} and method one of {', '.join(METHODS)}, not {state!r} and {method!r}"
            )
        self.channels = channels
        self.kernel_size = kernel_size
        self.state = state
        self.method = method
        self.horizon = horizon
        self.seed = seed

    def build(self, *shapes):
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
            # Kept as constants; not weights, since a file need not hold what a seed gives.
            positions = np.arange(self.noise_size, dtype="int64")
            self._noise = (
                seeded_noise(positions, self.seed).astype("float32").reshape(self.noise_shape)
            )

    @property
    def noise_shape(self):
        """Of both noises that an initial state is turned between."""
        return (2, self.channels, self.kernel_size, self.kernel_size, self.channels)

    @property
    def noise_size(self):
        """How many values that is."""
        return math.prod(self.noise_shape)

    def call(self, complexity, steps, noise=None):
        state = self.initial(complexity, noise)
        step = self.horizon / steps
        states = []
        for _ in range(steps):
            state = self.advance(state, step)
            states.append(state)
        return states

    def advance(self, state, step):
        """The state a step later, by the method."""
        return state + step * self._slope(state, step)

    def compute_output_spec(self, complexity, steps, noise=None):
        shape = (
            complexity.shape[0],
            self.channels,
            self.kernel_size,
            self.kernel_size,
            self.channels,
        )
        return [keras.KerasTensor(shape, dtype="float32") for _ in range(steps)]

    def initial(self, complexity, noise=None):
        """P_0 of each complexity."""
        c, k = self.channels, self.kernel_size
        complexity = ops.reshape(complexity, (-1, 1, 1, 1, 1))
        if self.state == "constant":
            return complexity * ops.ones((1, c, k, k, c))
        if self.state == "noise":
            angle = TURN * (complexity - 0.5)
            noise = self._noise if noise is None else noise
            first, second = (ops.convert_to_tensor(noise[i][None]) for i in range(2))
            return ops.cos(angle) * first + ops.sin(angle) * second
        outputs = self.outputs_factor + (complexity - 0.5) * self.complexity_factor
        plane = ops.reshape(self.plane_factor, (k, k, 1))
        return ops.reshape(self.inputs_factor, (c, 1, 1, 1)) * plane * outputs

    def _slope(self, state, step):
        """What a step of the method goes along."""
        first = self.derivative(state)
        if self.method == "euler":
            return first
        second = self.derivative(state + 0.5 * step * first)
        if self.method == "midpoint":
            return second
        third = self.derivative(state + 0.5 * step * second)
        fourth = self.derivative(state + step * third)
        return (first + 2.0 * second + 2.0 * third + fourth) / 6.0

    def derivative(self, state):
        """G of states, of the same shape."""
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

    def get_config(self):
        names = ("channels", "kernel_size", "state", "method", "horizon", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _normalised(x, gamma, beta):
    """Batch norm of each state by its own statistics; x is (batch, positions, channels)."""
    mean, variance = ops.moments(x, axes=[1], keepdims=True)
    return (x - mean) * (ops.rsqrt(variance + EPSILON) * gamma) + beta


def seeded_noise(positions, seed):
    """Noise of zero mean and unit variance, uniformly distributed, that is the same in every library and version.

    A hash of the position: three products modulo the prime 2^31 - 1, in 64-bit integers.

    Args:
        positions: int64, an array of numpy's or of another library with the same operators.
        seed: an integer.
    """
    x = (positions * 48271 + (seed * 69621 + 1) % PRIME) % PRIME
    for shift in (1013904223, 362437069, 521288629):
        x = x * ((x + shift) % PRIME) % PRIME
    return (x / PRIME - 0.5) * 12**0.5


def kernel_of(state, shape, normalise=True, depthwise=False):
    """A kernel from a state: average-pooled over channels and plane (Puppet-CNN, section 3.2), scaled to its fan-in.

    Args:
        state: (batch, C, k, k, C) of a `KernelODE`.
        shape: of the kernel, (height, width, inputs, outputs), none larger than the state's.
        normalise: whether the kernel of every output channel gets a mean square of 1 before it is
            scaled. Pooling shrinks what differs between neighbours, far more in narrow layers (ours).
        depthwise: whether it is of a `DepthwiseConv2D`, (height, width, channels, multiplier): each channel is an output.

    Returns:
        (batch, height, width, inputs, outputs); its mean square is about 1 / fan-in where it is normalised.
    """
    height, width, inputs, outputs = shape
    x = _pooled(state, 1, inputs)
    x = _pooled(x, 4, outputs)
    x = _pooled(_pooled(x, 2, height), 3, width)
    x = ops.transpose(x, (0, 2, 3, 1, 4))
    reads = (1, 2) if depthwise else (1, 2, 3)
    if normalise:
        x = x * ops.rsqrt(ops.mean(x * x, axis=reads, keepdims=True) + 1e-8)
    return x / float(np.sqrt(height * width * (1 if depthwise else inputs)))


def _pooled(x, axis, size):
    """Adaptive average pooling along an axis: bin i of n goes from floor(i m / n) to ceil((i + 1) m / n)."""
    before = x.shape[axis]
    if size == before:
        return x
    if before % size == 0:
        return ops.mean(
            ops.reshape(x, (-1, *x.shape[1:axis], size, before // size, *x.shape[axis + 1 :])),
            axis=axis + 1,
        )
    weights = np.zeros((before, size), "float32")
    for i in range(size):
        start, end = i * before // size, -(-(i + 1) * before // size)
        weights[start:end, i] = 1 / (end - start)
    return ops.moveaxis(
        ops.tensordot(x, ops.convert_to_tensor(weights), axes=([axis], [0])), -1, axis
    )
