import functools
import math

import keras
import numpy as np
from keras import ops


WIDE = 64  # channels on the wider side of a convolution, up to which JAX packs groups on a CPU


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups run, and train, as fast as the backend can.

    Same arguments, weights and results. Keras on TensorFlow compiles a grouped convolution with
    XLA, whose backward pass on a CPU is hundreds of times slower than TensorFlow's own kernel.
    This layer takes that kernel wherever its gradient is right (tried once for a dtype),
    and one convolution a group elsewhere. JAX on a CPU has XLA's trouble too and takes the
    split form; other backends have grouped convolutions of their own.

    Narrow groups waste a processor's vector units. `pack` neighbouring groups are therefore
    computed as one, with a block-diagonal kernel assembled from theirs and zero in between: more
    arithmetic, less time, the same result. The stored kernel stays that of Keras.

    Args:
        pack: groups computed as one, a divisor of `groups`; 1 for none; "auto" for what was
            fastest on a CPU for groups of this width (see `packing`).
        **others: as `keras.layers.Conv2D`, with `filters` and `kernel_size`.

    Input shape: (batch, height, width, channels), or channels first where the layer is set so.

    Output shape: (batch, new height, new width, filters).

    Raises:
        ValueError: channels, `filters` or `pack` that do not go into the groups.

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, section 3.2, for the groups; the
    packing is this project's.
    """

    def __init__(self, filters, kernel_size, *args, pack="auto", **kwargs):
        super().__init__(filters, kernel_size, *args, **kwargs)
        if pack != "auto" and (not isinstance(pack, int) or pack < 1 or self.groups % pack):
            raise ValueError(f"pack is 'auto' or a divisor of the {self.groups} groups, not {pack!r}")
        self.pack = pack
        self.positions = None
        if self.groups > 1 and keras.backend.backend() == "tensorflow" and not has_gpu():
            self.supports_jit = False  # XLA is what this layer avoids; JAX has nothing else

    def convolution_op(self, inputs, kernel):
        if self.groups == 1:
            return super().convolution_op(inputs, kernel)
        kernel, groups = self.packed(kernel)
        strides, dilations = list(self.strides), list(self.dilation_rate)
        return grouped_conv(inputs, kernel, groups, strides, self.padding, self.data_format, dilations)

    def build(self, input_shape):
        super().build(input_shape)
        output = self.compute_output_shape(input_shape)
        sides = output[1:3] if self.data_format == "channels_last" else output[2:]
        self.positions = None if None in sides else math.prod(sides)

    def packed(self, kernel, runtime="tensorflow"):
        """The kernel that a runtime computes with, of fewer groups than `kernel`, and their number."""
        pack = self.pack
        if pack == "auto":
            pack = packing(self.groups, kernel.shape[2], self.filters // self.groups, self.positions, runtime)
        return packed_kernel(kernel, self.groups, pack), self.groups // pack

    def get_config(self):
        return {**super().get_config(), "pack": self.pack}


def packing(groups, in_channels, out_channels, positions=None, runtime="tensorflow"):
    """How many neighbouring groups to compute as one: a rule by measurement.

    Pairs of 3x3 convolutions 2-4-2 and 2-6-2 at 32x32x64 to 2x2x512 on one core with AVX-512 (the other one
    was busy), packs of 1 to 32: LiteRT is fastest with the wider side at 16 channels; TensorFlow too on 8x8 and below, on more
    with the narrower at 4 (batch 32, forward and training); ONNX Runtime with the narrower at
    16, its block, and above 16x16 as it is.

    Args:
        groups: their number. in_channels, out_channels: of one group.
        positions: height x width of the output; None if not known.
        runtime: "tensorflow", "litert" or "onnx".
    """
    narrow, wide = sorted((in_channels, out_channels))
    positions = math.inf if positions is None else positions
    if runtime == "onnx":
        wanted = 16 // narrow if positions <= 256 else 1
    else:
        wanted = 16 // wide
        if runtime == "tensorflow" and positions > 64:
            wanted = min(wanted, 4 // narrow)
    pack = 1
    while 2 * pack <= wanted and groups % (2 * pack) == 0:
        pack *= 2
    return pack


def packed_kernel(kernel, groups, pack):
    """The kernel of `groups / pack` groups that does what that of `groups` does.

    Args:
        kernel: (height, width, channels of a group, filters).

    Returns:
        A tensor (height, width, pack * channels of a group, filters), block-diagonal in
        every group; `kernel` itself for a `pack` of 1.
    """
    if pack == 1:
        return kernel
    of_row = np.repeat(np.arange(pack), kernel.shape[2])
    of_filter = np.arange(kernel.shape[3]) // (kernel.shape[3] // groups) % pack
    mask = ops.cast(of_row[:, None] == of_filter, kernel.dtype)
    return ops.tile(kernel, (1, 1, pack, 1)) * mask


def grouped_conv(inputs, kernel, groups, strides, padding, data_format, dilations):
    """A grouped convolution in the fastest form of the backend that has a right gradient."""
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and data_format == "channels_first" and not has_gpu():
        # TensorFlow's kernels for CPUs know channels last only.
        inputs = ops.transpose(inputs, (0, 2, 3, 1))
        outputs = grouped_conv(inputs, kernel, groups, strides, padding, "channels_last", dilations)
        return ops.transpose(outputs, (0, 3, 1, 2))
    if on_tensorflow and max(dilations) == 1 and _native_gradient_is_right(inputs.dtype):
        import tensorflow as tf

        layout = "NHWC" if data_format == "channels_last" else "NCHW"
        return tf.nn.conv2d(inputs, kernel, strides, padding.upper(), data_format=layout)
    dense = functools.partial(
        ops.conv, strides=strides, padding=padding, data_format=data_format, dilation_rate=dilations
    )
    if groups == 1 or not _slow_gradient():
        return dense(inputs, kernel)
    wide, pack = max(kernel.shape[2], kernel.shape[3] // groups), 1
    while not on_tensorflow and groups % (2 * pack) == 0 and 2 * pack * wide <= WIDE:
        pack *= 2  # XLA compiles hundreds of convolutions for minutes; fewer run in the same time
    kernel, groups = packed_kernel(kernel, groups, pack), groups // pack
    axis = -1 if data_format == "channels_last" else 1
    parts = zip(ops.split(inputs, groups, axis), ops.split(kernel, groups, -1), strict=True)
    return ops.concatenate([dense(x, k) for x, k in parts], axis)


def _slow_gradient():
    """Whether Keras's own grouped convolution trains hundreds of times too slowly: XLA on a CPU."""
    return keras.backend.backend() in ("tensorflow", "jax") and not has_gpu()


@functools.cache
def _native_gradient_is_right(dtype):
    """Whether TensorFlow's grouped convolution trains in `dtype`: on a CPU only oneDNN's does."""
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def gradients(x, kernel, upstream):
        given = dict(out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME")
        of_x = tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=kernel, **given)
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, **given)
        return of_x, of_kernel

    with tf.init_scope():
        shapes = (2, 6, 6, 4), (3, 3, 2, 6), (2, 6, 6, 6)
        tensors = [tf.cast(rng.normal(size=shape), dtype) for shape in shapes]
        halves = [gradients(*parts) for parts in zip(*(tf.split(t, 2, -1) for t in tensors), strict=True)]
        wanted = [tf.concat(parts, -1) for parts in zip(*halves, strict=True)]
        try:
            found = gradients(*tensors)
        except tf.errors.OpError:
            return False
        found, wanted = ([np.asarray(g, "float64") for g in pair] for pair in (found, wanted))
    tolerance = 1e-4 if tf.as_dtype(dtype).size >= 4 else 0.1
    return all(np.allclose(a, b, atol=tolerance) for a, b in zip(found, wanted, strict=True))


@functools.cache
def has_gpu():
    """Whether the backend computes on something else than a CPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())
