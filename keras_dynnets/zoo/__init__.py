"""Names to models: `list_models`, `info`, `load`."""

from keras_dynnets.zoo.entry import Entry, Info, WeightsRecord
from keras_dynnets.zoo.registry import UntrainedModelWarning, info, labels, list_models, load
