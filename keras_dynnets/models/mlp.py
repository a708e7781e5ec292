"""The plain networks for handwritten digits that TissueNet's are measured against."""

from keras import layers

from keras_dynnets.models.residual import normalise
from keras_dynnets.models.vgg import sequential

MNIST_GRAY = ((33.32,), (78.57,))


def mlp(num_classes, input_shape, name="mlp"):
    """A multi-layer perceptron with hidden layers of 500 and 300, logits out (TissueNet's baseline, table 1).

    Args:
        num_classes: size of the logits.
        input_shape: (height, width, 1); images in [0, 255].
    """
    chain = [
        normalise(MNIST_GRAY),
        layers.Flatten(name="flatten"),
        layers.Dense(500, "relu", name="dense1"),
        layers.Dense(300, "relu", name="dense2"),
        layers.Dense(num_classes, name="logits", dtype="float32"),
    ]
    return sequential(chain, input_shape, name)


def lenet5(num_classes, input_shape, name="lenet5"):
    """LeNet-5 with ReLU and max-pooling, logits out.

    Args:
        num_classes: size of the logits.
        input_shape: (height, width, 1); images in [0, 255].

    Reference: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998. Deviations:
    ReLU, max-pooling, and a full second convolution, as has become usual.
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
