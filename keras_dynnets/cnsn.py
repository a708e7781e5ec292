"""CNSN: makes a network detachable, lists where it can be cut, chooses a sub-model."""

from keras_dynnets.families.cnsn.cuts import CutPoint, cut_points
from keras_dynnets.families.cnsn.model import CNSN, detachable
from keras_dynnets.measure.budget import Choice, choose

__all__ = ["CNSN", "Choice", "CutPoint", "choose", "cut_points", "detachable"]
