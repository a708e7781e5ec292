"""Labelled images by name, from files, and in augmented batches."""
