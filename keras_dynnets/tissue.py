"""TissueNet: gives a network of your own its stacked form."""

from keras_dynnets.families.tissue.convert import Stacked, stack_units

__all__ = ["Stacked", "stack_units"]
