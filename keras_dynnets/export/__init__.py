"""A trained model to a file that another runtime runs."""

from keras_dynnets.export.deploy import deploy
from keras_dynnets.export.export_model import Report, export_model
from keras_dynnets.export.verify import ExportError
