"""DMNN: residual networks whose blocks are split into gated sub-blocks (arXiv 1902.10949)."""
