"""DMNN: networks that decide for each image which sub-blocks of their blocks run."""

from keras_dynnets.families.dmnn.forced_gates import with_forced_gates, without_gates
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.studies.dmnn import bench

__all__ = ["DMNN", "bench", "with_forced_gates", "without_gates"]
