"""Training data: data sets by name, images in files, and augmented batches."""
