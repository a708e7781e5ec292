"""A Keras 3 model zoo of dynamic and compact CNNs whose savings are real."""

import importlib
import sys
from pathlib import Path

__version__ = "0.2.0"

_MODULES = (
    "baselines",
    "cnsn",
    "data",
    "dmnn",
    "examples",
    "export",
    "layers",
    "profile",
    "puppet",
    "tissue",
    "training",
    "zoo",
)
_FUNCTIONS = {"freeze": "core.freezing", "unfreeze": "core.freezing"}


def __getattr__(name: str):
    """Imports a public module or function when it is first used."""
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_FUNCTIONS})


# Keras loads a saved model only if the classes in it are registered. The command line registers
# them when a command needs them, so that `keras-dynnets list` need not wait for TensorFlow.
if Path(getattr(sys, "argv", [""])[0]).stem != "keras-dynnets":
    from keras_dynnets import families

    families.register_classes()
