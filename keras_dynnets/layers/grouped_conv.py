"""A grouped convolution that trains fast and computes narrow groups together."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core.devices import has_gpu

WIDE = 64  # JAX on a CPU: channels on the wider side of a convolution up to which groups are packed


def largest_pack(groups: int, wanted: int) -> int:
    """Gives the largest power of two that divides `groups` and is at most `wanted`, or 1.

    Args:
        groups: number of groups of a convolution.
        wanted: how many neighbouring groups would be fastest as one.
    """
    pack = 1
    while 2 * pack <= wanted and groups % (2 * pack) == 0:
        pack *= 2
    return pack


def packing(groups: int, in_channels: int, out_channels: int, positions: int | None = None) -> int:
    """Chooses how many neighbouring groups TensorFlow computes as one on a CPU.

    The rule is measured on pairs of 3x3 convolutions with units of 2-4-2 and 2-6-2 channels, at
    sizes from 32x32x64 to 2x2x512, in packs of 1 to 32 units, forward and in training with
    batches of 32, on one core with AVX-512 while the other core was busy. Outputs of up to 8x8
    are fastest with 16 channels on the wider side of a pack, larger ones with 4 channels on the
    narrower side.

    Args:
        groups: number of groups.
        in_channels: input channels of one group.
        out_channels: output channels of one group.
        positions: height x width of the output; None if it is not known.

    Returns:
        A power of two that divides `groups`; 1 leaves the groups as they are.
    """
    narrow, wide = sorted((in_channels, out_channels))
    wanted = 16 // wide
    if positions is None or positions > 64:
        wanted = min(wanted, 4 // narrow)
    return largest_pack(groups, wanted)


@keras.saving.register_keras_serializable(package="keras_dynnets")
class GroupedConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D` whose groups run and train as fast as the backend can.

    The layer has the arguments, weights and results of `keras.layers.Conv2D`. Keras on
    TensorFlow compiles a grouped convolution with XLA, whose backward pass on a CPU is hundreds
    of times slower than TensorFlow's own kernel. This layer calls that kernel where its gradient
    is right, which it tries once for each dtype, and one convolution for each group elsewhere.
    JAX on a CPU has the slow backward pass of XLA too and gets one convolution for each group.
    All other cases use the grouped convolution of Keras.

    Narrow groups leave the vector units of a processor partly idle. `pack` neighbouring groups
    are therefore computed as one group, with a block-diagonal kernel that is made of their
    kernels and zeros. This does more arithmetic in less time and gives the same result. The
    stored kernel stays that of Keras.

    Args:
        filters: int, number of output channels, a multiple of `groups`.
        kernel_size: int or (height, width), size of the kernel.
        *args: further positional arguments of `keras.layers.Conv2D`.
        pack: int or "auto", number of neighbouring groups that are computed as one, a divisor of
            `groups`. 1 leaves the groups as they are; "auto" takes the number that was fastest
            on a CPU for groups of this width (see `packing`).
        **kwargs: keyword arguments of `keras.layers.Conv2D`, `groups` among them.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with
    `data_format="channels_first"`.

    Output shape: (batch, new height, new width, filters), or channels first as the input.

    Raises:
        ValueError: `groups` does not divide the channels or `filters`, or `pack` does not divide
            `groups`.

    Example:
        >>> layer = GroupedConv2D(64, 3, padding="same", groups=16)
        >>> outputs = layer(images)  # (batch, 32, 32, 32) to (batch, 32, 32, 64)

    Reference: Lan et al., arXiv 2205.01508, section 3.2, for the groups. The packing is not in
    the paper.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *args: Any,
        pack: int | str = "auto",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, *args, **kwargs)
        if pack != "auto" and (not isinstance(pack, int) or pack < 1 or self.groups % pack):
            raise ValueError(
                f"pack is 'auto' or a divisor of the {self.groups} groups, not {pack!r}"
            )
        self.pack = pack
        self.one_operation = False  # set in networks for other runtimes, which need no gradients
        self.positions: int | None = None
        if self.groups > 1 and keras.backend.backend() == "tensorflow" and not has_gpu():
            self.supports_jit = False  # this layer avoids XLA; JAX has nothing else

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if self.groups == 1:
            return super().convolution_op(inputs, kernel)
        kernel, groups = self.packed(kernel)
        strides, dilations = list(self.strides), list(self.dilation_rate)
        return grouped_convolution(
            inputs,
            kernel,
            groups,
            strides,
            self.padding,
            self.data_format,
            dilations,
            self.one_operation,
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        output = self.compute_output_shape(input_shape)
        sides = output[1:3] if self.data_format == "channels_last" else output[2:]
        self.positions = None if None in sides else math.prod(sides)

    def packed(self, kernel: Any, rule: Callable[..., int] = packing) -> tuple[Any, int]:
        """Packs neighbouring groups of a kernel into one group each.

        Args:
            kernel: kernel of this layer, (height, width, channels of a group, filters).
            rule: function with the signature of `packing` that chooses the number of groups to
                pack where `pack` is "auto".

        Returns:
            The kernel, (height, width, pack * channels of a group, filters), and the number of
            its groups.
        """
        pack = self.pack
        if not isinstance(pack, int):
            of_group = kernel.shape[2], self.filters // self.groups
            pack = rule(self.groups, *of_group, self.positions)
        return packed_kernel(kernel, self.groups, pack), self.groups // pack

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pack": self.pack}


def packed_kernel(kernel: Any, groups: int, pack: int) -> Any:
    """Gives the kernel of `groups / pack` groups that computes the same as one of `groups` groups.

    Args:
        kernel: (height, width, channels of a group, filters).
        groups: number of groups of `kernel`.
        pack: number of neighbouring groups that become one, a divisor of `groups`.

    Returns:
        A tensor (height, width, pack * channels of a group, filters), block-diagonal in every
        group; `kernel` itself for a `pack` of 1.
    """
    if pack == 1:
        return kernel
    of_row = np.repeat(np.arange(pack), kernel.shape[2])
    of_filter = np.arange(kernel.shape[3]) // (kernel.shape[3] // groups) % pack
    mask = ops.cast(of_row[:, None] == of_filter, kernel.dtype)
    return ops.tile(kernel, (1, 1, pack, 1)) * mask


def grouped_convolution(
    inputs: Any,
    kernel: Any,
    groups: int,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilations: Sequence[int],
    one_operation: bool = False,
) -> Any:
    """Computes a grouped convolution in the fastest form of the backend with a right gradient.

    Args:
        inputs: images or features, (batch, height, width, channels) or channels first.
        kernel: (height, width, channels of a group, filters).
        groups: number of groups.
        strides: strides along height and width.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first", the layout of `inputs` and of the result.
        dilations: dilation rates along height and width.
        one_operation: whether to use TensorFlow's own grouped convolution on every processor. Not
            every one can run it or compute its gradient, but other runtimes can run a file of it.

    Returns:
        A tensor (batch, new height, new width, filters) or channels first.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and data_format == "channels_first" and not has_gpu():
        # TensorFlow's kernels for CPUs take channels last only.
        inputs = ops.transpose(inputs, (0, 2, 3, 1))
        outputs = grouped_convolution(
            inputs, kernel, groups, strides, padding, "channels_last", dilations, one_operation
        )
        return ops.transpose(outputs, (0, 3, 1, 2))
    native = one_operation or (on_tensorflow and _native_gradient_is_right(inputs.dtype))
    if on_tensorflow and max(dilations) == 1 and native:
        import tensorflow as tf

        layout = "NHWC" if data_format == "channels_last" else "NCHW"
        border = "SAME" if padding == "same" else "VALID"
        return tf.nn.conv2d(inputs, kernel, strides, border, data_format=layout)
    dense = functools.partial(
        ops.conv,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilations,
    )
    if groups == 1 or not _slow_gradient():
        return dense(inputs, kernel)
    if not on_tensorflow:
        # XLA compiles hundreds of convolutions for minutes; fewer of them run in the same time.
        pack = largest_pack(groups, WIDE // max(kernel.shape[2], kernel.shape[3] // groups))
        kernel, groups = packed_kernel(kernel, groups, pack), groups // pack
    axis = -1 if data_format == "channels_last" else 1
    parts = zip(ops.split(inputs, groups, axis), ops.split(kernel, groups, -1), strict=True)
    return ops.concatenate([dense(x, k) for x, k in parts], axis)


def _slow_gradient() -> bool:
    """Says whether XLA on a CPU makes Keras's own grouped convolution train far too slowly."""
    return keras.backend.backend() in ("tensorflow", "jax") and not has_gpu()


@functools.cache
def _native_gradient_is_right(dtype: str) -> bool:
    """Says whether the gradient of TensorFlow's grouped convolution is right in `dtype`.

    On a CPU only the gradient of the oneDNN library is. The function tries a small example.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def gradients(x: Any, kernel: Any, upstream: Any) -> tuple[Any, Any]:
        given = dict(out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME")
        of_x = tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=kernel, **given)
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, **given)
        return of_x, of_kernel

    with tf.init_scope():
        shapes = (2, 6, 6, 4), (3, 3, 2, 6), (2, 6, 6, 6)
        tensors = [tf.cast(rng.normal(size=shape), dtype) for shape in shapes]
        groups = zip(*(tf.split(tensor, 2, -1) for tensor in tensors), strict=True)
        halves = [gradients(*parts) for parts in groups]
        wanted = [tf.concat(parts, -1) for parts in zip(*halves, strict=True)]
        try:
            found = gradients(*tensors)
        except tf.errors.OpError:
            return False
        found, wanted = ([np.asarray(g, "float64") for g in pair] for pair in (found, wanted))
    tolerance = 1e-4 if tf.as_dtype(dtype).size >= 4 else 0.1
    return all(np.allclose(a, b, atol=tolerance) for a, b in zip(found, wanted, strict=True))
