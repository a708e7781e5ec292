"""Puppet-CNN: generate the kernels of a network of your own, group data by level, see what images ask for."""

from keras_dynnets.layers.input_complexity import complexity
from keras_dynnets.models.puppet import PuppetCNN, by_level, puppeteer

__all__ = ["PuppetCNN", "by_level", "complexity", "puppeteer"]
