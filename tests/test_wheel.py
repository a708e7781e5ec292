"""Installed from a wheel, in an empty folder and without a network, the zoo works."""

import os
import shutil
import subprocess
import sys
import zipfile

import helpers
import pytest

ROOT = helpers.TESTS.parent
FOLDERS = ("keras_dynnets", "zoo")
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

SIX_LINES = """
import keras_dynnets as kd
from keras_dynnets import zoo
model = zoo.load("dmnn20", weights="cifar10")
image = kd.examples.photo("cat")
logits = model.predict(image[None], verbose=0)
print(zoo.labels("dmnn20", "cifar10")[logits.argmax()])
print(kd.__file__)
"""


@pytest.mark.slow
def test_a_wheel_carries_what_the_first_example_needs(tmp_path):
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    pytest.importorskip("wheel", reason="wheel is not installed")
    source, empty, installed = (tmp_path / name for name in ("source", "empty", "installed"))
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *build, "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 60_000_000
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    empty.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "KERAS_DYNNETS_OFFLINE": "1",
        "KERAS_DYNNETS_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SIX_LINES],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    label, place = done.stdout.splitlines()
    assert label == "cat"
    assert place.startswith(str(installed))
    assert not list(empty.iterdir())
