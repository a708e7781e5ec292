"""A layer that takes a range of channels."""

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_dynnets")
class ChannelSlice(keras.layers.Layer):
    """The channels from `start` up to, without, `start + size` of a channels-last input.

    Args:
        start: int, index of the first channel.
        size: int, number of channels.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Input shape: (batch, ..., channels).

    Output shape: (batch, ..., size).

    Raises:
        ValueError: the range does not lie inside the channels of the input.

    Example:
        >>> outputs = ChannelSlice(2, 4)(features)  # channels 2, 3, 4 and 5
    """

    def __init__(self, start: int, size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.start = start
        self.size = size

    def build(self, input_shape: Sequence[int]) -> None:
        channels = input_shape[-1]
        if self.start < 0 or self.size < 1 or self.start + self.size > channels:
            raise ValueError(
                f"channels {self.start} to {self.start + self.size} do not lie inside the "
                f"{channels} channels of the input: give a start of at least 0 and a size of at "
                f"least 1 with start + size of at most {channels}"
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs[..., self.start : self.start + self.size]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "size": self.size}
