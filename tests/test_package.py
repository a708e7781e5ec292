import ast
import re
from pathlib import Path

import keras
import pytest
from helpers import run_python

import keras_dynnets
from keras_dynnets import layers, models

ROOT = Path(keras_dynnets.__file__).parent
LEVELS = {
    "cost": 0,
    "layers": 1,
    "models": 2,
    "zoo": 3,
    "training": 4,
    "export": 4,
    "profile": 4,
    "cli": 5,
}


def printed_by(statement):
    """What a statement prints, warnings being errors; numbers such as times and process ids left out."""
    code = f"""
import subprocess, sys
done = subprocess.run([sys.executable, "-W", "error", "-c", {statement!r}], capture_output=True, text=True)
print(done.stdout + done.stderr)
sys.exit(done.returncode)
"""
    return {re.sub(r"\d+", "", line) for line in run_python(code).splitlines()}


def test_import_prints_nothing_more_than_keras():
    assert printed_by("import keras_dynnets") <= printed_by("import keras")


def test_import_is_light():
    """Nothing heavy comes in beyond what Keras brings (where they are installed: matplotlib and scikit-learn)."""
    code = "import sys, keras; before = {*sys.modules}; import keras_dynnets; print(*{*sys.modules} - before)"
    loaded = set(run_python(code).split())
    assert "keras_dynnets.zoo" in loaded
    heavy = {
        "matplotlib",
        "sklearn",
        "tensorflow_datasets",
        "onnx",
        "onnxruntime",
        "tf2onnx",
        "ai_edge_litert",
        "tf_keras",
    }
    assert not heavy & loaded


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_run_one_way(file):
    """cost <- layers <- models <- zoo <- training, export, profile <- cli."""
    level = LEVELS.get(file.relative_to(ROOT).parts[0].removesuffix(".py"), 9)
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name the package in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for room in {name.split(".")[1] for name in names if name.startswith("keras_dynnets.")}:
            assert LEVELS.get(room, 0) <= level, f"line {node.lineno} imports {room}"


@pytest.mark.parametrize(
    "cls",
    [
        layers.BatchNormalization,
        layers.ChannelSlice,
        layers.GumbelGate,
        layers.MultiPath,
        layers.PathController,
        models.DMNN,
    ],
)
def test_names_inside_saved_files(cls):
    name = f"keras_dynnets>{cls.__name__}"
    assert keras.saving.get_registered_name(cls) == name
    assert keras.saving.get_registered_object(name) is cls


@pytest.mark.parametrize(
    "cls",
    [
        layers.BatchNormalization,
        layers.ChannelSlice,
        layers.GumbelGate,
        layers.MultiPath,
        layers.PathController,
        models.DMNN,
    ],
)
def test_docstrings_say_the_shapes(cls):
    assert cls.__doc__
    assert "shape" in cls.__doc__ or "Output" in cls.__doc__


def test_version():
    from importlib.metadata import version

    assert keras_dynnets.__version__ == version("keras-dynnets")
