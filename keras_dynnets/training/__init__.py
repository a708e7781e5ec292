"""What surrounds `model.fit`: data, recipes, runs, evaluation and publishing."""

from keras_dynnets.training.data.batches import Batches
from keras_dynnets.training.data.datasets import load_data
from keras_dynnets.training.evaluate import evaluate
from keras_dynnets.training.recipe import Recipe, find_recipe
from keras_dynnets.training.run import train

__all__ = ["Batches", "Recipe", "evaluate", "find_recipe", "load_data", "train"]
