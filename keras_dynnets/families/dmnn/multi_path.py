import keras
from keras import ops

from keras_dynnets.core import cost
from keras_dynnets.core.conditional import GatedBranches
from keras_dynnets.core.cost import Costed
from keras_dynnets.core.deployable import Deployable, Deployer


@keras.saving.register_keras_serializable(package="keras_dynnets")
class MultiPath(GatedBranches, Costed, Deployable, keras.layers.Layer):
    """A shortcut plus those of its paths that each image's gates ask for (DMNN, eq. 4).

    `output[b] = shortcut[b] + sum_n gates[b, n] * paths[n](inputs)[b]`, in one of
    three forms with the same answer:

    - masked: every path runs on every image and is multiplied by its gate. It
      saves nothing; it is the form of training, where the gradient of a closed
      gate needs the path's output and batch norm sees every image.
    - sparse (TensorFlow): a path runs on the rows of the batch whose gate is open,
      gathered before and scattered back after. A path without rows does not run.
    - conditional: for a batch of one image, each path behind an `if`; where the batch
      size is not known beforehand, the sparse form.

    Beside them "all" ignores the gates and runs every path: what savings are
    measured against, and what the ONNX export starts from.

    "auto" trains masked. In inference it takes the conditional form where the
    batch size is known to be 1, else the sparse one; on other backends than
    TensorFlow the masked one. Setting `execution = "sparse"` makes
    training sparse as well: faster, but a closed gate then gets no gradient from
    the path behind it, so it suits fine-tuning with frozen controllers.

    Args:
        paths: list of layers, each mapping `inputs` to the shape of `shortcut`;
            usually `keras.Sequential`.
        execution: "auto", "masked", "sparse", "conditional" or "all".

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
            raise ValueError(
                "MultiPath needs at least one path, a layer from the input to the shortcut's shape"
            )
        self.paths = list(paths)
        self.execution = execution
        # XLA compiles static shapes only, and the sparse form has none; on JAX it is all XLA and masked.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, inputs_shape, gates_shape, shortcut_shape):
        if gates_shape[-1] != len(self.paths):
            raise ValueError(
                f"{len(self.paths)} paths need gates of shape (batch, {len(self.paths)}), not {gates_shape}"
            )
        for path in self.paths:
            if not path.built:
                path.build(inputs_shape)

    def call(self, inputs, gates, shortcut, training=None):
        form = self._form(inputs, training)
        if form == "conditional" and inputs.shape[0] not in (1, None):
            raise ValueError(
                f"the conditional form takes one image a call, not {inputs.shape[0]}; use execution='sparse'"
            )
        run = {
            "masked": self._add_masked,
            "all": self._add_all,
            "conditional": self._add_conditional,
            "sparse": self._add_sparse,
        }[form]
        return run(inputs, gates, shortcut, training)

    def _form(self, inputs, training):
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if self.execution == "conditional" and inputs.shape[0] is None and on_tensorflow:
            return "sparse"  # a condition has one answer, and this may be more than one image
        if self.execution != "auto":
            return self.execution
        if training:
            return "masked"
        if inputs.shape[0] == 1:
            return "conditional"
        return "sparse" if on_tensorflow else "masked"

    def _add_all(self, inputs, gates, output, training):
        for n, path in enumerate(self.paths):
            with keras.name_scope(
                f"sub_block_{n}"
            ):  # the ONNX export finds the additions by this name
                output = output + path(inputs, training=training)
        return output

    def _add_masked(self, inputs, gates, output, training):
        for n, path in enumerate(self.paths):
            output = output + ops.reshape(gates[:, n], (-1, 1, 1, 1)) * path(
                inputs, training=training
            )
        return output

    def _add_conditional(self, inputs, gates, output, training):
        for n, path in enumerate(self.paths):
            run = lambda path=path, output=output: output + path(inputs, training=training)  # noqa: E731
            output = ops.cond(gates[0, n] > 0.5, run, lambda output=output: output)
        return output

    def _add_sparse(self, inputs, gates, output, training):
        for n in range(0, len(self.paths), 2):
            output = self._add_two_sparse(
                self.paths[n : n + 2], inputs, gates[:, n : n + 2] > 0.5, output, training
            )
        return output

    @staticmethod
    def _add_two_sparse(paths, inputs, is_open, output, training):
        """Adds one or two paths with one gather for both.

        The rows of the batch are put in the order: those that only the first path needs,
        both, only the second, none. Each path then has a run of neighbours, a slice that copies nothing.
        """
        import tensorflow as tf

        first, second = is_open[:, 0], is_open[:, -1] & (len(paths) == 2)
        rank = tf.where(first, tf.where(second, 1, 0), tf.where(second, 2, 3))
        count = lambda condition: tf.math.count_nonzero(condition, dtype="int32")  # noqa: E731
        a, b, c = count(rank < 1), count(rank < 2), count(rank < 3)
        everything = tf.reduce_all(is_open)
        rows = tf.argsort(rank, stable=True)[:c]
        x = tf.cond(everything, lambda: inputs, lambda: tf.gather(inputs, rows))
        nothing = tf.zeros((0, *output.shape[1:]), output.dtype)

        def run(path, part):
            # A convolution over no rows fails in fused TensorFlow graphs: the guard is not only for speed.
            return tf.cond(
                tf.shape(part)[0] > 0, lambda: path(part, training=training), lambda: nothing
            )

        runs = [(rows[:b], run(paths[0], x[:b]))]
        if len(paths) == 2:
            runs.append((rows[a:], run(paths[1], x[a:])))

        def complete():
            return sum((result for _, result in runs), output)

        def scattered():
            total = output
            for at, result in runs:
                total = tf.tensor_scatter_nd_add(total, at[:, None], result)
            return total

        summed = tf.cond(everything, complete, scattered)
        return tf.ensure_shape(summed, output.shape)

    def compute_output_spec(self, inputs, gates, shortcut, training=None):
        return keras.KerasTensor(shortcut.shape, dtype=self.compute_dtype)

    def inner_calls(self, input_shape):
        return [(path, input_shape) for path in self.paths]

    def optional_macs(self, input_shape):
        return tuple(cost.layer_macs(path, input_shape) for path in self.paths)

    def deployed(self, deployer: Deployer) -> "MultiPath":
        paths = [deployer.chain(path) for path in self.paths]
        return MultiPath(paths, deployer.execution, name=self.name, dtype="float32")

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
