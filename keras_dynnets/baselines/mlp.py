"""Plain networks for handwritten digits."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_dynnets.baselines.skeleton import normalise
from keras_dynnets.baselines.vgg import sequential

MNIST_GRAY = ((33.32,), (78.57,))  # mean and standard deviation of the images, in [0, 255]


def build_mlp(num_classes: int, input_shape: Sequence[int], name: str = "mlp") -> keras.Model:
    """Builds a multi-layer perceptron with hidden layers of 500 and 300 and random weights.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 1) of the images, in [0, 255].
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Example:
        >>> model = build_mlp(num_classes=10, input_shape=(28, 28, 1))

    Reference: Lan et al., arXiv 2205.01508, table 1 (the network that it compares with).
    """
    chain = [
        normalise(MNIST_GRAY),
        layers.Flatten(name="flatten"),
        layers.Dense(500, "relu", name="dense1"),
        layers.Dense(300, "relu", name="dense2"),
        layers.Dense(num_classes, name="logits", dtype="float32"),
    ]
    return sequential(chain, input_shape, name)


def build_lenet5(num_classes: int, input_shape: Sequence[int], name: str = "lenet5") -> keras.Model:
    """Builds LeNet-5 with ReLU and max-pooling and random weights.

    Deviations from the paper: ReLU, max-pooling and a second convolution that reads all channels,
    as is usual today.

    Args:
        num_classes: number of logits.
        input_shape: (height, width, 1) of the images, in [0, 255].
        name: name of the model.

    Returns:
        A functional model from images to logits, (batch, num_classes).

    Example:
        >>> model = build_lenet5(num_classes=10, input_shape=(28, 28, 1))

    Reference: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998,
    doi 10.1109/5.726791.
    """
    chain = [
        normalise(MNIST_GRAY),
        layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1"),
        layers.MaxPooling2D(2, name="pool1"),
        layers.Conv2D(16, 5, activation="relu", name="conv2"),
        layers.MaxPooling2D(2, name="pool2"),
        layers.Flatten(name="flatten"),
        layers.Dense(120, "relu", name="dense1"),
        layers.Dense(84, "relu", name="dense2"),
        layers.Dense(num_classes, name="logits", dtype="float32"),
    ]
    return sequential(chain, input_shape, name)
