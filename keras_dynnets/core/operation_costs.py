"""Multiply-accumulates (MACs) of the operations of `keras.ops`.

An operation is counted by a formula in `COUNTED`, or is known to multiply no matrices and stands
in `FREE`. No other operation has a known cost.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_dynnets.core import keras_private

# Elementwise operations, pooling, reductions, norms, comparisons, sorting, indexing, reshaping,
# resizing and other ways of moving or weighting single values, by the names of their classes.
FREE = """
Abs Absolute AdaptiveAveragePool AdaptiveMaxPool Add AffineTransform All AllClose Amax Amin Angle
Any Append Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition
Argsort Array ArraySplit Average AveragePool BatchNorm BinaryCrossentropy Bincount BitwiseAnd
BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo Cast
CategoricalCrossentropy Cbrt Ceil Celu Clip Concatenate Conj Conjugate ConvertToTensor Copy Cos
Cosh CountNonzero CropImages Cross Cumprod Cumsum Deg2rad DepthToSpace Diag Diagflat Diagonal Diff
Digitize Divide DivideNoNan Dsplit Dstack Elu EmptyLike Equal Erf Erfc Erfinv Exp Exp2 ExpandDims
Expm1 ExtractPatches ExtractSequences Fabs FakeQuantWithMinMaxVars Flip Fliplr Flipud Floor
FloorDivide Fmax Fmin Fmod Fold Full FullLike Gcd Gelu Geomspace GetItem Glu Greater GreaterEqual
HSVToRGB HardShrink HardSigmoid HardSilu HardTanh Heaviside Histogram Hsplit Hstack Hypot I0 Imag
InTopK IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal LayerNorm Lcm Ldexp LeakyRelu
LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 LogSigmoid LogSoftmax Logaddexp Logaddexp2
LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Logsumexp MapCoordinates Max MaxPool Maximum
Mean Median Meshgrid Min Minimum Mish Mod Moments Moveaxis MultiHot Multiply NanToNum Nanargmax
Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod Nanquantile
Nanstd Nansum Nanvar Ndim Negative Nextafter Nonzero Norm Normalize NotEqual OneHot OnesLike PSNR
Pad PadImages Percentile PerspectiveTransform Polar Power Prod Ptp Quantile RGBToGrayscale
RGBToHSV RMSNorm Rad2deg Ravel ReLU Real Rearrange Reciprocal Relu Relu6 Repeat Reshape Resize
RightShift Roll Rot90 Round Rsqrt SaturateCast ScaleAndTranslate Scatter ScatterUpdate
SearchSorted SegmentMax SegmentMin SegmentProd SegmentReduction SegmentSum Select Selu Sigmoid
Sign Signbit Silu Sin Sinc Sinh Size Slice SliceUpdate SoftShrink Softmax Softplus Softsign Sort
SpaceToDepth SparseCategoricalCrossentropy SparsePlus SparseSigmoid Sparsemax Split Sqrt Square
Squareplus Squeeze Stack Std StopGradient Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh
TanhShrink Threshold Tile TopK Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unfold Unique
UnravelIndex Unstack Vander Var View ViewAsComplex ViewAsReal Vsplit Vstack Where ZerosLike
"""
FREE_NAMES = frozenset(FREE.split())


Shape = Sequence[int | None]


class OpenSize(ValueError):
    """A size that a cost depends on is open (`None`)."""


def size(shape: Shape) -> int:
    """Multiplies the sizes of a shape.

    Raises:
        OpenSize: one of them is open.
    """
    sizes = [n for n in shape if n is not None]
    if len(sizes) < len(shape):
        raise OpenSize(f"the size {tuple(shape)} is open: give the model a fixed input_shape")
    return math.prod(sizes)


def operation_macs(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[Any]
) -> int | None:
    """Counts the MACs of a call of an operation, for the whole batch.

    Args:
        operation: an operation of `keras.ops`.
        args: its arguments.
        kwargs: its named arguments.
        outputs: its results.

    Returns:
        MACs; None where the cost of the operation is not known.

    Raises:
        OpenSize: a size that the cost depends on is open.
    """
    name = keras_private.operation_name(operation)
    if name in FREE_NAMES:
        return 0
    if name not in COUNTED:
        return None
    shapes = [_shape(value) for value in (*args, *kwargs.values()) if value is not None]
    return COUNTED[name](operation, shapes, tuple(outputs[0].shape))


def _shape(value: Any) -> Shape:
    return tuple(value.shape if hasattr(value, "shape") else np.shape(value))


def _conv(operation: Any, shapes: list[Shape], output: Shape) -> int:
    return size(output) * size(shapes[1][:-1])  # a kernel has the channels of one group


def _depthwise_conv(operation: Any, shapes: list[Shape], output: Shape) -> int:
    return size(output) * size(shapes[1][:-2])


def _separable_conv(operation: Any, shapes: list[Shape], output: Shape) -> int:
    depthwise, filters = shapes[1], size(shapes[2][-1:])
    positions = size(output) // filters
    return positions * size(depthwise[-2:]) * (size(depthwise[:-2]) + filters)


def _conv_transpose(operation: Any, shapes: list[Shape], output: Shape) -> int:
    return size(shapes[0]) * size(shapes[1][:-1])


def _last_axis(operation: Any, shapes: list[Shape], output: Shape) -> int:
    """Counts a product that sums over the last axis of its first argument."""
    first, second = shapes[:2]
    return size(output) * size(first[-1:]) if first and second else 0  # 0 with a single number


def _vdot(operation: Any, shapes: list[Shape], output: Shape) -> int:
    return size(shapes[0])


def _outer(operation: Any, shapes: list[Shape], output: Shape) -> int:
    return size(output)


def _tensordot(operation: Any, shapes: list[Shape], output: Shape) -> int:
    first, axes = shapes[0], operation.axes
    if isinstance(axes, int):
        return size(output) * size(first[len(first) - axes :])
    axes = axes[0] if isinstance(axes[0], (list, tuple)) else axes[:1]
    return size(output) * size([first[axis] for axis in axes])


def _attention(operation: Any, shapes: list[Shape], output: Shape) -> int:
    """Counts the products of queries with keys, and of the weights with the values."""
    query, key = shapes[:2]
    return 2 * size(query) * size(key[1:2])


def _blur(operation: Any, shapes: list[Shape], output: Shape) -> int:
    return size(output) * size(operation.kernel_size)


def _einsum(operation: Any, shapes: list[Shape], output: Shape) -> int | None:
    """Counts a product of two tensors: one MAC for each combination of the values of all indices.

    An index that one tensor alone has, and the result has not, is summed before the product.
    """
    if len(shapes) == 1:
        return 0
    if len(shapes) > 2:
        return None  # it depends on the order in which the tensors are multiplied
    terms, arrow, result = operation.subscripts.replace(" ", "").partition("->")
    names = [
        _indices(term, len(shape)) for term, shape in zip(terms.split(","), shapes, strict=True)
    ]
    every = [name for one in names for name in one]
    kept = set(_indices(result, len(output)))
    if not arrow:
        kept = {name for name in every if every.count(name) == 1 or name.isdigit()}
    sizes: dict[str, int | None] = {}
    for one, shape in zip(names, shapes, strict=True):
        for name, n in zip(one, shape, strict=True):
            sizes[name] = n if sizes.get(name, 1) == 1 else sizes[name]
    alone = set(names[0]) ^ set(names[1])
    return size([n for name, n in sizes.items() if name in kept or name not in alone])


def _indices(term: str, rank: int) -> list[str]:
    """Gives a name for each axis of a term; the axes of an ellipsis are numbered from the last."""
    before, ellipsis, after = term.partition("...")
    more = rank - len(before) - len(after) if ellipsis else 0
    return [*before, *(str(n) for n in reversed(range(more))), *after]


COUNTED: dict[str, Callable[[Any, list[Shape], Shape], int | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthwiseConv": _depthwise_conv,
    "Dot": _last_axis,
    "DotProductAttention": _attention,
    "Einsum": _einsum,
    "GaussianBlur": _blur,
    "Inner": _last_axis,
    "Matmul": _last_axis,
    "Outer": _outer,
    "SeparableConv": _separable_conv,
    "Tensordot": _tensordot,
    "Vdot": _vdot,
}
