import keras
from keras import ops

from keras_dynnets.core import cost
from keras_dynnets.core.cost import Costed
from keras_dynnets.families.dmnn.gumbel_gate import GumbelGate


@keras.saving.register_keras_serializable(package="keras_dynnets")
class PathController(Costed, keras.layers.Layer):
    """Decides, image by image, which sub-blocks of a block run (DMNN, eq. 5-8).

    `z = GAP(x)`, `h = ReLU(W1 z + b1) + ReLU(W2 h_previous)`, logits
    `W3 h + b3` for (skip, execute) of every sub-block, gates by `GumbelGate`.

    Deviations from the paper, which leaves them open: W1 has a bias and W2, which
    has none, is the controller's own (the parameter counts of the paper allow
    both); the first controller, without a previous state, has `h = ReLU(W1 z + b1)`;
    the gate's bias starts at (0.1, 2.0), so that a training starts with nearly every path
    on (ConvNet-AIG, arXiv 1711.11503, which the paper builds on).

    Args:
        sub_blocks: number of gates.
        units: width of the state h. 32 in the paper.
        noise, seed: see `GumbelGate`.
        logits_stddev: deviation of W3 at the start. With 0.001 a decision is the same for every
            image at first; a short training of a shallow network gains from more (0.2: from
            0.001 it left every second gate open for half of the images by noise alone), a
            deep one would start with closed paths.

    Call arguments:
        inputs: the block's input, (batch, height, width, channels), or channels
            first where Keras is set so.
        state: the previous controller's state, (batch, units), or None at the first block.
        forced: optional values to add to the advantage of executing, the difference of the
            logits, (batch, sub_blocks); +-1e4 decides a gate while the controller still does
            all its work. There is no noise and no gradient then.

    Output: gates (batch, sub_blocks) of exact 0.0 and 1.0, and the state (batch, units).

    Raises:
        ValueError: `sub_blocks` or `units` below 1.

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949, section 3.2.
    """

    def __init__(self, sub_blocks, units=32, noise=1.0, logits_stddev=0.001, seed=None, **kwargs):
        super().__init__(**kwargs)
        if sub_blocks < 1 or units < 1:
            raise ValueError(
                f"sub_blocks and units must be 1 or more, not {sub_blocks} and {units}"
            )
        self.sub_blocks = sub_blocks
        self.units = units
        self.logits_stddev = logits_stddev
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool", dtype=self.dtype_policy)
        self.embed_input = keras.layers.Dense(
            units, "relu", name="embed_input", dtype=self.dtype_policy
        )
        self.embed_state = keras.layers.Dense(
            units, "relu", use_bias=False, name="embed_state", dtype=self.dtype_policy
        )
        self.logits = keras.layers.Dense(
            2 * sub_blocks,
            kernel_initializer=keras.initializers.RandomNormal(stddev=logits_stddev),
            bias_initializer=_nearly_on,
            name="logits",
            dtype=self.dtype_policy,
        )
        self.gate = GumbelGate(noise, seed, name="gate", dtype=self.dtype_policy)

    def build(self, inputs_shape, state_shape=None, forced_shape=None):
        self.has_state = state_shape is not None
        self.pool.build(inputs_shape)
        self.embed_input.build((None, self.pool.compute_output_shape(inputs_shape)[-1]))
        if self.has_state:
            self.embed_state.build((None, self.units))
        self.logits.build((None, self.units))
        self.gate.build((None, self.sub_blocks, 2))

    def call(self, inputs, state=None, forced=None, training=None):
        new_state = self.embed_input(self._pooled(inputs, training))
        if state is not None:
            new_state = new_state + self.embed_state(state)
        if training and forced is None:
            logits = ops.reshape(self.logits(new_state), (-1, self.sub_blocks, 2))
            return self.gate(logits, training=True), new_state
        # Without noise only the difference of each pair counts: half the values, and no pairs to take apart.
        kernel, bias = self.logits.kernel, self.logits.bias
        advantage = ops.matmul(new_state, kernel[:, 1::2] - kernel[:, ::2]) + (
            bias[1::2] - bias[::2]
        )
        if forced is not None:
            advantage = advantage + forced
        return ops.cast(advantage > 0, self.compute_dtype), new_state

    def _pooled(self, inputs, training):
        one_pass = (
            keras.backend.backend() == "tensorflow" and self.pool.data_format == "channels_last"
        )
        if training or not one_pass or inputs.shape[0] == 1 or None in inputs.shape[1:]:
            return self.pool(inputs)
        # TensorFlow's mean over two axes takes twice as long (2.4 for 5.5 ms at 16x56x56x256).
        pooled = ops.average_pool(inputs, inputs.shape[1:3], data_format="channels_last")
        return ops.reshape(pooled, (-1, inputs.shape[-1]))

    def compute_output_spec(self, inputs, state=None, forced=None, training=None):
        spec = lambda width: keras.KerasTensor((inputs.shape[0], width), dtype=self.compute_dtype)  # noqa: E731
        return spec(self.sub_blocks), spec(self.units)

    def macs(self, input_shape):
        """MACs of one decision, in inference."""
        channels = self.pool.compute_output_shape(input_shape)[-1]
        own = self.units if self.has_state else 0
        return cost.dense_macs(channels + own + self.sub_blocks, self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "sub_blocks": self.sub_blocks,
            "units": self.units,
            "noise": self.gate.noise,
            "logits_stddev": self.logits_stddev,
            "seed": self.gate.seed,
        }


def _nearly_on(shape, dtype=None):
    return ops.tile(ops.cast([0.1, 2.0], dtype), shape[0] // 2)
