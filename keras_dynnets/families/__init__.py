"""The families of dynamic and compact networks, a package each.

A family's package has an `entries.py` that registers its networks with the zoo and names, in
`MODULES`, the modules whose layers and models are registered with Keras.
"""

import importlib
import pkgutil

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def register_entries() -> None:
    """Registers the networks of all families with the zoo, without importing Keras."""
    for name in NAMES:
        importlib.import_module(f"{__name__}.{name}.entries")


def register_classes() -> None:
    """Imports the layers and models of all families, so that Keras loads files that hold them."""
    importlib.import_module("keras_dynnets.core.named_model")
    for name in NAMES:
        for module in importlib.import_module(f"{__name__}.{name}.entries").MODULES:
            importlib.import_module(f"{__name__}.{name}.{module}")
