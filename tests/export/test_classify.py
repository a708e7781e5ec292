"""The kit that runs exported files without Keras."""

import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
from PIL import Image

from keras_dynnets.export import export_model

SCRIPT = Path(__file__).parents[2] / "export" / "classify.py"


@pytest.mark.parametrize(("format", "suffix"), [("litert", "tflite"), ("onnx", "onnx")])
def test_it_names_the_class_that_keras_finds_without_loading_keras(tmp_path, format, suffix):
    model = helpers.scatter_gates(helpers.settle(helpers.tiny(), helpers.images(16)))
    labels = [f"class {i}" for i in range(10)]
    export_model(model, tmp_path / f"m.{suffix}", format, labels=labels)
    images = helpers.images(3).round()
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.astype("uint8")).save(path)
    arguments = [str(path) for path in ("classify", tmp_path / f"m.{suffix}", *paths)]
    code = (
        f"import runpy, sys; sys.argv = {arguments!r}; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__'); "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    best = model.predict(images, verbose=0).argmax(-1)
    for line, path, label in zip(
        done.stdout.splitlines(), paths, np.array(labels)[best], strict=True
    ):
        assert line.startswith(f"{path}: {label} ")


def test_a_missing_file_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "m.onnx", "x.png"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "m.onnx is missing" in done.stderr
