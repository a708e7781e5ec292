#!/usr/bin/env python3
"""Classifies images with an exported file, without Keras and TensorFlow.

    pip install numpy pillow ai-edge-litert
    python classify.py model.tflite photo.jpg ...

    pip install numpy pillow onnxruntime
    python classify.py model.onnx photo.jpg ...

The script reads the size of the input and the labels from `<file>.json`, which the export wrote
beside the file.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads an exported file.

    Args:
        path: a .tflite or .onnx file.

    Returns:
        A function from a batch of one image, (1, height, width, channels), to logits, (1, classes).
    """
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda batch: session.run(["logits"], {"images": batch})[0]
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(str(path)).get_signature_runner()
    return lambda batch: signature(images=batch)["logits"]


def read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads an image of any size and resizes it.

    Args:
        path: an image file that Pillow reads.
        shape: (height, width, channels) of the network's input; 1 channel makes the image gray.

    Returns:
        A batch of one image, (1, height, width, channels), float32 in [0, 255].
    """
    height, width, channels = shape
    image = Image.open(path).convert("RGB" if channels == 3 else "L")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, "float32").reshape(1, height, width, channels)


def main() -> None:
    """Prints the most likely classes of each image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a .tflite or .onnx file")
    parser.add_argument("images", nargs="+", type=Path, help="image files")
    parser.add_argument("--top", type=int, default=3, help="number of classes to print")
    arguments = parser.parse_args()
    described = Path(f"{arguments.file}.json")
    for path in (arguments.file, described, *arguments.images):
        if not path.is_file():
            sys.exit(
                f"{path} is missing; give an exported file with the .json file that the export "
                "wrote beside it, and image files that exist"
            )
    description = json.loads(described.read_text())
    run = load(arguments.file)
    for path in arguments.images:
        logits = run(read(path, description["input"]["shape"][1:]))[0].astype("float64")
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = shares.argsort()[::-1][: arguments.top]
        labels = description["labels"] or [str(i) for i in range(len(shares))]
        print(f"{path}: " + ", ".join(f"{labels[i]} {shares[i]:.1%}" for i in best))


if __name__ == "__main__":
    main()
