"""Puppet-CNN: networks whose kernels an equation generates (arXiv 2411.12876)."""
