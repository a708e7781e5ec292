"""Names to models: `list_models`, `info`, `load`; where their weights come from: `set_mirror`."""

from keras_dynnets.zoo.entry import Entry, Info
from keras_dynnets.zoo.records import WeightsRecord
from keras_dynnets.zoo.registry import UntrainedModelWarning, info, labels, list_models, load
from keras_dynnets.zoo.settings import set_mirror
