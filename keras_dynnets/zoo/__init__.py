"""Networks by name: lists them, loads them with their weights, and registers your own.

Example:
    >>> from keras_dynnets import zoo
    >>> model = zoo.load("resnet20", weights="cifar10")
    >>> mine = zoo.load("runs/photos")
"""

from keras_dynnets.core.registry import Entry, register
from keras_dynnets.zoo.loading import UntrainedModelWarning, load
from keras_dynnets.zoo.registry import Info, info, labels, list_models
from keras_dynnets.zoo.run_folders import RunRecord, read_run
from keras_dynnets.zoo.weights.records import WeightsRecord
from keras_dynnets.zoo.weights.settings import set_mirror

__all__ = [
    "Entry",
    "Info",
    "RunRecord",
    "UntrainedModelWarning",
    "WeightsRecord",
    "info",
    "labels",
    "list_models",
    "load",
    "read_run",
    "register",
    "set_mirror",
]
