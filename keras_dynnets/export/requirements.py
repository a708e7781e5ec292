import importlib


def require(module):
    """Imports a module that only the `export` extra installs.

    Raises:
        ImportError: it is not installed; the message says what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"this export needs {module} ({error}); pip install 'keras-dynnets[export]'") from error
