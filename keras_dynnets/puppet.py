"""Puppet-CNN: networks with generated kernels, batches of one level, the complexity of images."""

from keras_dynnets.families.puppet.builders import puppeteer
from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.families.puppet.level_batches import by_level
from keras_dynnets.families.puppet.model import PuppetCNN

__all__ = ["PuppetCNN", "by_level", "complexity", "puppeteer"]
