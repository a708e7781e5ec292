"""What surrounds `model.fit`: data, augmentation, recipes."""

from keras_dynnets.training.augment import Batches
from keras_dynnets.training.data import load_data
from keras_dynnets.training.recipe import Recipe, find_recipe
from keras_dynnets.training.train import evaluate, train
