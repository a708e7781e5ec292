"""Puppet-CNN: generates the kernels of a network, groups data by level, measures complexity."""

from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.families.puppet.level_batches import by_level
from keras_dynnets.families.puppet.model import PuppetCNN, puppeteer

__all__ = ["PuppetCNN", "by_level", "complexity", "puppeteer"]
