"""Lets `python -m keras_dynnets.cli` run the command line."""

from keras_dynnets.cli import main

main()
