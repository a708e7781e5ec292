"""Training by recipes: data, recipes, runs and evaluation.

Example:
    >>> from keras_dynnets.training import find_recipe, train
    >>> results = train(find_recipe("resnet20", "cifar10"), "runs/resnet20-cifar10")
"""

from keras_dynnets.core.freezing import freeze, unfreeze
from keras_dynnets.training.data.batches import Batches
from keras_dynnets.training.data.checking import FolderReport, check_folder
from keras_dynnets.training.data.datasets import load_data
from keras_dynnets.training.evaluation import evaluate
from keras_dynnets.training.recipe import Recipe, find_recipe
from keras_dynnets.training.recipe_images import FolderWarning
from keras_dynnets.training.recorded import ChangedDataWarning, run_data
from keras_dynnets.training.run import train

__all__ = [
    "Batches",
    "ChangedDataWarning",
    "FolderReport",
    "FolderWarning",
    "Recipe",
    "check_folder",
    "evaluate",
    "find_recipe",
    "freeze",
    "load_data",
    "run_data",
    "train",
    "unfreeze",
]
