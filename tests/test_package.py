"""The package as a whole: what its import brings, the names in saved files, the version."""

import re
from importlib.metadata import version

import keras
import pytest
from helpers import run_python

import keras_dynnets
from keras_dynnets import layers
from keras_dynnets.training import optimizer  # noqa: F401  registers the learning-rate schedule

# Classes that stand in saved files as "keras_dynnets>ClassName". A name is never removed here.
LAYERS = (
    "BatchNormalization",
    "ChannelSlice",
    "GeneratedConv2D",
    "GroupedConv2D",
    "GroupedDense",
    "GumbelGate",
    "InputComplexity",
    "KernelODE",
    "LevelNormalization",
    "MultiPath",
    "PathController",
    "Puppet",
    "SlicedBatchNormalization",
    "SlicedConv2D",
    "SlicedDense",
    "StackedUnits1D",
    "StackedUnits2D",
    "StepDownConv2D",
)
OTHERS = ("CNSN", "DMNN", "NamedModel", "PuppetCNN", "StepDecay")

HEAVY = {
    "ai_edge_litert",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "sklearn",
    "tensorflow_datasets",
    "tf2onnx",
    "tf_keras",
}


def printed_by(statement):
    """What a statement prints, with warnings as errors and without numbers such as times."""
    code = f"""
import subprocess, sys
command = [sys.executable, "-W", "error", "-c", {statement!r}]
done = subprocess.run(command, capture_output=True, text=True)
print(done.stdout + done.stderr)
sys.exit(done.returncode)
"""
    return {re.sub(r"\d+", "", line) for line in run_python(code).splitlines()}


def test_import_prints_nothing_more_than_keras():
    assert printed_by("import keras_dynnets") <= printed_by("import keras")


def test_import_is_light():
    """Beyond what Keras brings, nothing heavy is imported, wherever it is installed."""
    code = "import sys, keras; before = {*sys.modules}; import keras_dynnets; "
    loaded = set(run_python(code + "print(*{*sys.modules} - before)").split())
    assert "keras_dynnets.families.dmnn.model" in loaded  # Keras loads saved files
    assert not HEAVY & loaded


def test_the_command_line_lists_models_without_keras():
    code = "import sys; sys.argv = ['/bin/keras-dynnets']; from keras_dynnets import zoo; "
    code += "assert 'resnet20' in zoo.list_models(pretrained=True); print(*sys.modules)"
    loaded = set(run_python(code).split())
    assert "keras_dynnets.zoo" in loaded
    assert not {"keras", "tensorflow", "torch", "jax", *HEAVY} & loaded


def test_public_modules():
    for name in ("cnsn", "dmnn", "export", "layers", "profile", "puppet", "tissue", "zoo"):
        assert getattr(keras_dynnets, name).__name__ == f"keras_dynnets.{name}"
        assert name in dir(keras_dynnets)
    with pytest.raises(AttributeError, match="no attribute 'models'"):
        _ = keras_dynnets.models


@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_names_inside_saved_files(name):
    cls = keras.saving.get_registered_object(f"keras_dynnets>{name}")
    assert cls.__name__ == name
    assert keras.saving.get_registered_name(cls) == f"keras_dynnets>{name}"
    assert (name in dir(layers)) == (name in LAYERS)
    if name in LAYERS:
        assert getattr(layers, name) is cls


def test_the_names_of_all_classes_are_here():
    """A class that joins the library joins the list, so that its name never changes either."""
    names = {name for name in keras.saving.get_custom_objects() if "keras_dynnets>" in name}
    assert names == {f"keras_dynnets>{name}" for name in (*LAYERS, *OTHERS)}


@pytest.mark.parametrize("name", [*LAYERS, "CNSN", "DMNN", "PuppetCNN"])
def test_docstrings_say_the_shapes(name):
    text = keras.saving.get_registered_object(f"keras_dynnets>{name}").__doc__
    assert "shape" in text or "(batch" in text


def test_version():
    assert keras_dynnets.__version__ == version("keras-dynnets")
