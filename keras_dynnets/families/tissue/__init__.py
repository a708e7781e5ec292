"""TissueNet: networks of stacked small independent units (arXiv 2205.01508)."""
