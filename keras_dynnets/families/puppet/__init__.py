"""Puppet-CNN: networks whose kernels a differential equation generates (arXiv 2411.12876)."""
