import keras
from keras import ops

from keras_dynnets import cost

EXECUTIONS = ("auto", "masked", "sparse", "conditional")


@keras.saving.register_keras_serializable(package="keras_dynnets")
class MultiPath(keras.layers.Layer):
    """A shortcut plus those of its paths that each image's gates ask for (DMNN, eq. 4).

    `output[b] = shortcut[b] + sum_n gates[b, n] * paths[n](inputs)[b]`, in one of
    three forms with the same answer:

    - masked: every path runs on every image and is multiplied by its gate. It
      saves nothing; it is the form of training, where the gradient of a closed
      gate needs the path's output and batch norm sees every image.
    - sparse: a path runs on the rows of the batch whose gate is open, gathered
      before and scattered back after. An empty path does not run at all.
    - conditional: for a batch of one image, each path behind an `if`.

    "auto" trains masked. In inference it takes the conditional form where the
    batch size is known to be 1, else the sparse one; on a backend without
    dynamic shapes (JAX) the masked one. Setting `execution = "sparse"` makes
    training sparse as well: faster, but a closed gate then gets no gradient from
    the path behind it, so it suits fine-tuning with frozen controllers.

    Args:
        paths: list of layers, each mapping `inputs` to the shape of `shortcut`;
            usually `keras.Sequential`.
        execution: "auto", "masked", "sparse" or "conditional".

    Call arguments:
        inputs: (batch, height, width, channels).
        gates: (batch, number of paths), 0 or 1, as `PathController` gives them.
        shortcut: what the paths are added to, of the shape of their outputs.

    Output shape: that of `shortcut`.

    Raises:
        ValueError: no paths, an unknown execution, gates that do not fit the
            paths, or the conditional form on a batch that is not one image.

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949, section 3.1.
    """

    def __init__(self, paths, execution="auto", **kwargs):
        super().__init__(**kwargs)
        if not paths:
            raise ValueError("MultiPath needs at least one path, a layer from the input to the shortcut's shape")
        self.paths = list(paths)
        self.execution = execution
        # XLA compiles static shapes only, and the sparse form has none; on JAX it is all XLA and masked.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    @property
    def execution(self):
        return self._execution

    @execution.setter
    def execution(self, value):
        if value not in EXECUTIONS:
            raise ValueError(f"execution {value!r} is unknown; it is one of {', '.join(EXECUTIONS)}")
        self._execution = value

    def build(self, inputs_shape, gates_shape, shortcut_shape):
        if gates_shape[-1] != len(self.paths):
            raise ValueError(f"{len(self.paths)} paths need gates of shape (batch, {len(self.paths)}), not {gates_shape}")
        for path in self.paths:
            if not path.built:
                path.build(inputs_shape)

    def call(self, inputs, gates, shortcut, training=None):
        form = self._form(inputs, training)
        if form == "conditional" and inputs.shape[0] not in (1, None):
            raise ValueError(f"the conditional form takes one image a call, not {inputs.shape[0]}; use execution='sparse'")
        run = getattr(self, f"_add_{form}")
        output = shortcut
        for n, path in enumerate(self.paths):
            output = run(lambda rows, path=path: path(rows, training=training), inputs, gates[:, n], output)
        return output

    def _form(self, inputs, training):
        if self.execution != "auto":
            return self.execution
        if training:
            return "masked"
        if inputs.shape[0] == 1:
            return "conditional"
        return "masked" if keras.backend.backend() == "jax" else "sparse"

    @staticmethod
    def _add_masked(path, inputs, gate, output):
        return output + ops.reshape(gate, (-1, 1, 1, 1)) * path(inputs)

    @staticmethod
    def _add_conditional(path, inputs, gate, output):
        return ops.cond(gate[0] > 0.5, lambda: output + path(inputs), lambda: output)

    @staticmethod
    def _add_sparse(path, inputs, gate, output):
        """Adds `path` on the open rows; whole batches move nothing, empty ones run nothing."""
        rows = ops.nonzero(gate > 0.5)[0]
        all_open = ops.equal(ops.shape(rows)[0], ops.shape(gate)[0])

        def add():
            partial = path(ops.cond(all_open, lambda: inputs, lambda: ops.take(inputs, rows, axis=0)))
            return ops.cond(
                all_open,
                lambda: output + partial,
                lambda: ops.scatter_update(output, rows[:, None], ops.take(output, rows, axis=0) + partial),
            )

        # A convolution over zero rows fails in fused TensorFlow graphs, so the guard is not only for speed.
        return ops.cond(ops.shape(rows)[0] > 0, add, lambda: output)

    def compute_output_spec(self, inputs, gates, shortcut, training=None):
        return keras.KerasTensor(shortcut.shape, dtype=self.compute_dtype)

    def path_macs(self, input_shape):
        """MACs of each path for one image, a list."""
        return [cost.layer_macs(path, input_shape) for path in self.paths]

    def macs(self, input_shape):
        """MACs with every path on."""
        return sum(self.path_macs(input_shape))

    def get_config(self):
        return {
            **super().get_config(),
            "paths": [keras.saving.serialize_keras_object(path) for path in self.paths],
            "execution": self.execution,
        }

    @classmethod
    def from_config(cls, config):
        paths = [keras.saving.deserialize_keras_object(path) for path in config.pop("paths")]
        return cls(paths=paths, **config)
