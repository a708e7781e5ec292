import keras
import numpy as np
import pytest

from keras_dynnets import profile, zoo


@pytest.fixture(scope="session")
def images():
    """24 images of different colours, uint8 (24, 32, 32, 3)."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 226, (24, 1, 1, 3)) + rng.integers(0, 30, (24, 32, 32, 3))).astype(
        "uint8"
    )


@pytest.fixture(scope="session")
def labels():
    return np.arange(24) % 4


@pytest.fixture(scope="session")
def dmnn(images):
    """A small DMNN whose gates differ from image to image."""
    keras.utils.set_random_seed(0)
    model = zoo.load("dmnn20", weights=None)
    rng = np.random.default_rng(0)
    for controller in model._controllers():
        kernel = controller.logits.kernel
        kernel.assign(rng.normal(size=kernel.shape))
        controller.logits.bias.assign(np.zeros(4))
    return model


@pytest.fixture(scope="session")
def measurement(dmnn, images):
    return profile.measure(dmnn, images)
