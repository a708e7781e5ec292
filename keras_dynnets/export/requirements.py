"""Packages that only the extra `export` installs."""

import importlib
from types import ModuleType


def require(module: str) -> ModuleType:
    """Imports a module that only the extra `export` installs.

    Args:
        module: full name of the module.

    Raises:
        ImportError: it is not installed; the message says what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this export needs {module} ({error}); pip install 'keras-dynnets[export]'"
        ) from error
