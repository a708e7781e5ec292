"""DMNN: residual networks whose blocks are divided into gated sub-blocks (arXiv 1902.10949)."""
