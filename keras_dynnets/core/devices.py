"""What the backend computes on."""

import functools

import keras


@functools.cache
def has_gpu() -> bool:
    """Says whether the backend computes on something other than a CPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())
