"""Chains of layers that run side by side on channels of their own."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_dynnets.core.cost import Costed
from keras_dynnets.families.tissue.units import with_channels


class SideBySide(Costed, keras.layers.Layer):
    """Chains of layers that each take channels of their own, with their results in a given order.

    Args:
        chains: list of `keras.Sequential`.
        reads: for each chain a list of int, the channels that it takes.
        order: list of int, for each channel of the result its position among the joined results
            of the chains.
        axis: int, axis of the channels, -1 or 1.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, ..., channels), or channels first.

    Output shape: (batch, ..., len(order)), or channels first.
    """

    def __init__(
        self,
        chains: Sequence[keras.Sequential],
        reads: Sequence[Sequence[int]],
        order: Sequence[int],
        axis: int = -1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.chains = list(chains)
        self.reads = reads
        self.order = order
        self.axis = axis

    def build(self, input_shape: Sequence[int | None]) -> None:
        for chain, shape in self.inner_calls(tuple(input_shape)):
            if not chain.built:
                chain.build(shape)

    def inner_calls(self, input_shape: tuple) -> list[tuple[keras.Layer, tuple]]:
        return [
            (chain, with_channels(input_shape, self.axis, len(channels)))
            for chain, channels in zip(self.chains, self.reads, strict=True)
        ]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if len(self.chains) == 1:
            return self.chains[0](inputs, training=training)
        parts = [
            chain(self._taken(inputs, channels), training=training)
            for chain, channels in zip(self.chains, self.reads, strict=True)
        ]
        return self._taken(ops.concatenate(parts, self.axis), self.order)

    def _taken(self, x: Any, channels: Sequence[int]) -> Any:
        """Gives some channels of a tensor, in the given order."""
        first, last = channels[0], channels[-1] + 1
        if list(channels) != list(range(first, last)):
            return ops.take(x, channels, self.axis)
        if last - first == x.shape[self.axis]:
            return x
        return x[..., first:last] if self.axis == -1 else x[:, first:last]
