#!/usr/bin/env python3
"""Classifies images with an exported file. Needs numpy, pillow and the file's runtime; no Keras, no TensorFlow.

    python classify.py model.tflite photo.jpg ...     pip install numpy pillow ai-edge-litert
    python classify.py model.onnx photo.jpg ...       pip install numpy pillow onnxruntime

Reads `<file>.json`, which the export left beside it, for the size of the input and the labels.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def session(path):
    """A function from a batch of one image to logits."""
    if path.suffix == ".onnx":
        import onnxruntime

        loaded = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda batch: loaded.run(["logits"], {"images": batch})[0]
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(str(path)).get_signature_runner()
    return lambda batch: signature(images=batch)["logits"]


def read(path, shape):
    """An image of any size and kind as (1, *shape), float32 in [0, 255]; one channel is gray."""
    height, width, channels = shape
    image = Image.open(path).convert("RGB" if channels == 3 else "L")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, "float32").reshape(1, height, width, channels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a .tflite or .onnx file")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=3, help="classes to show")
    arguments = parser.parse_args()
    described = Path(f"{arguments.file}.json")
    for path in (arguments.file, described, *arguments.images):
        if not path.is_file():
            sys.exit(f"{path} is missing; the export writes a file and its .json side by side")
    description = json.loads(described.read_text())
    run = session(arguments.file)
    for path in arguments.images:
        logits = run(read(path, description["input"]["shape"][1:]))[0].astype("float64")
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = shares.argsort()[::-1][: arguments.top]
        labels = description["labels"] or [str(i) for i in range(len(shares))]
        print(f"{path}: " + ", ".join(f"{labels[i]} {shares[i]:.1%}" for i in best))


if __name__ == "__main__":
    main()
