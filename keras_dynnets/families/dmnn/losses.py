"""The losses that a DMNN adds to the classification loss.

Equation numbers are those of Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def resource_loss(gates: Any, fixed_macs: int, path_macs: np.ndarray, target_rate: float) -> Any:
    """Computes the loss that brings the work of a network to a target (equations 11 to 15).

    It is the sum of the squared differences between the target and the execution rate of each
    block, plus the squared difference between the target and the share of MACs.

    Args:
        gates: gates of the batch, (batch, blocks, sub_blocks) of 0 and 1.
        fixed_macs: MACs that every image takes.
        path_macs: MACs of every sub-block, (blocks, sub_blocks).
        target_rate: the target, e of equation 12 and r of equation 14, in (0, 1].

    Returns:
        A scalar.
    """
    rates = _global_mean(ops.cast(gates, "float32"))
    _, macs_share = work_shares(rates, fixed_macs, path_macs)
    execution_loss = ops.sum(ops.square(target_rate - ops.mean(rates, axis=1)))
    return execution_loss + ops.square(macs_share - target_rate)


def work_shares(rates: Any, fixed_macs: int, path_macs: np.ndarray) -> tuple[Any, Any]:
    """Computes how much of its work a network does.

    Args:
        rates: share of the images that each sub-block runs on, (blocks, sub_blocks).
        fixed_macs: MACs that every image takes.
        path_macs: MACs of every sub-block, (blocks, sub_blocks).

    Returns:
        The share of the sub-blocks that run, and the share of the MACs, both in [0, 1].
    """
    total = fixed_macs + path_macs.sum()
    shares = ops.convert_to_tensor(path_macs / total, rates.dtype)
    return ops.mean(rates), fixed_macs / total + ops.sum(rates * shares)


def _global_mean(gates: Any) -> Any:
    """Gives the mean over the batch, (blocks, sub_blocks).

    Under a `tf.distribute` strategy this is the mean over the images of all replicas, whose parts
    of the batch may differ in size.
    """
    total, images = ops.sum(gates, axis=0), ops.cast(ops.shape(gates)[0], gates.dtype)
    if keras.backend.backend() == "tensorflow":  # JAX computes on the global batch
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            total, images = context.all_reduce(tf.distribute.ReduceOp.SUM, [total, images])
    return total / images


def category_weights(stages: Sequence[int]) -> list[float]:
    """Gives the weight of each block's category loss (alpha_l of equation 10).

    Args:
        stages: index of the stage of each block, from 0.

    Returns:
        Weights from 1e-4 in the first stage to 1e-1 in the last, with the same ratio between any
        two consecutive stages.
    """
    return np.geomspace(1e-4, 1e-1, max(stages) + 1)[list(stages)].tolist()


def category_loss(
    y: Any,
    heads: Sequence[Any],
    categories: Sequence[int],
    weights: Sequence[float],
    sample_weight: Any = None,
) -> Any:
    """Computes the weighted sum of the category losses of all controllers (equations 9 and 10).

    Args:
        y: classes of the images, integers (batch,) or (batch, 1), or one-hot (batch, classes).
        heads: the controllers' logits for the categories, each (batch, number of categories).
        categories: the category of each class.
        weights: weight of each controller's loss.
        sample_weight: weight of each image, (batch,); None for equal weights.

    Returns:
        A scalar.
    """
    one_hot = len(y.shape) == 2 and y.shape[-1] == len(categories) > 1
    classes = ops.argmax(y, -1) if one_hot else ops.reshape(y, (-1,))
    table = ops.convert_to_tensor(categories, "int32")
    wanted = ops.take(table, ops.cast(classes, "int32"))
    # A Keras loss divides by the number of replicas of a tf.distribute strategy itself.
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return sum(
        weight * entropy(wanted, head, sample_weight)
        for weight, head in zip(weights, heads, strict=True)
    )
