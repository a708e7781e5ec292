"""CNSN: make a network detachable, see where it can be cut, choose a sub-model."""

from keras_dynnets.models.cnsn import CNSN, cut_points, detachable
from keras_dynnets.profile.choose import Choice, choose

__all__ = ["CNSN", "Choice", "choose", "cut_points", "detachable"]
