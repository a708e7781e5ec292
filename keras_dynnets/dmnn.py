"""DMNN: networks whose blocks are split into sub-blocks that a controller opens for each image."""

from keras_dynnets.families.dmnn.forced_gates import with_forced_gates, without_gates
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.studies.dmnn import bench

__all__ = ["DMNN", "bench", "with_forced_gates", "without_gates"]
