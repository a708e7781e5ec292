import gc
import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow turns oneDNN on by itself on newer processors alone. Without it there are no
# convolutions with channels first, and no gradients of its grouped convolutions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # as many processes as cores: more threads would only wait for each other
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")
for setting in ("MIRROR", "OFFLINE", "TIMEOUT"):  # the tests read the checkout's own weights
    os.environ.pop(f"KERAS_DYNNETS_{setting}", None)
# and not those that the developer has in a cache
os.environ["KERAS_DYNNETS_HOME"] = os.path.join(tempfile.gettempdir(), "keras_dynnets_no_cache")

import keras
import pytest

import keras_dynnets.zoo  # noqa: F401

# Python looks through all that was imported, and all models, again and again: a sixth of the time.
gc.collect()
gc.freeze()
gc.set_threshold(200_000, 50, 100)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same seeds, whichever ran before it."""
    keras.utils.set_random_seed(7)


@pytest.fixture
def half_precision():
    """Layers made in the test compute in float16."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    yield
    keras.mixed_precision.set_dtype_policy(before)


@pytest.fixture
def tiny_entry(monkeypatch):
    """A zoo entry "tiny" that is traced in a second, for tests of what surrounds a model."""
    import helpers

    from keras_dynnets.core.registry import ENTRIES

    monkeypatch.setitem(ENTRIES, "tiny", helpers.TINY_ENTRY)
    return "tiny"


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `keras-dynnets` with arguments: its exit status and what it printed."""
    from keras_dynnets import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-dynnets", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
            sys.exit(0)
        return ended.value.code, capsys.readouterr()

    return run


LONGEST = ("test_notebooks", "test_fine_tuning", "test_documents", "test_dmnn", "test_wheel")


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first, so that two processes end at about the same time."""

    def place(item):
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)
