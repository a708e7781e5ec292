import keras


@keras.saving.register_keras_serializable(package="keras_dynnets")
class ChannelSlice(keras.layers.Layer):
    """The channels `start` to `start + size` of a channels-last input.

    Args:
        start: first channel.
        size: number of channels.

    Input shape: (batch, ..., channels).

    Output shape: (batch, ..., size).

    Raises:
        ValueError: the slice does not lie inside the input's channels.
    """

    def __init__(self, start, size, **kwargs):
        super().__init__(**kwargs)
        self.start = start
        self.size = size

    def build(self, input_shape):
        if self.start < 0 or self.size < 1 or self.start + self.size > input_shape[-1]:
            raise ValueError(f"channels {self.start} to {self.start + self.size} do not lie inside {input_shape[-1]}")
        self.built = True

    def call(self, inputs):
        return inputs[..., self.start : self.start + self.size]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.size)

    def get_config(self):
        return {**super().get_config(), "start": self.start, "size": self.size}
