"""A Keras 3 model zoo of dynamic and compact CNNs whose savings are real."""

from keras_dynnets import layers, models, zoo

__version__ = "0.1.0"
