"""Images: files read one by one as networks take them, and data sets by name or by folder."""

from keras_dynnets.core.photos import read_image
from keras_dynnets.training.data.batches import Batches, InOrder
from keras_dynnets.training.data.datasets import Data, Split, load_data
from keras_dynnets.training.data.image_cache import cached

__all__ = ["Batches", "Data", "InOrder", "Split", "cached", "load_data", "read_image"]
