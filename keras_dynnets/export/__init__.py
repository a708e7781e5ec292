"""From a trained model to a file that another runtime runs."""

from keras_dynnets.export.api import Report, export_model
from keras_dynnets.export.deployment import deploy
from keras_dynnets.export.formats.base import Format, WriteJob, register_format
from keras_dynnets.export.verify import ExportError

__all__ = [
    "ExportError",
    "Format",
    "Report",
    "WriteJob",
    "deploy",
    "export_model",
    "register_format",
]
