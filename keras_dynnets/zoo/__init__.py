"""Names to models: `list_models`, `info`, `load`."""

from keras_dynnets.zoo.entry import Entry, Info, WeightsRecord
from keras_dynnets.zoo.registry import UntrainedModelWarning, info, list_models, load
