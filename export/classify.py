#!/usr/bin/env python3
"""Classifies images with an exported file, without Keras and TensorFlow.

    pip install numpy pillow ai-edge-litert
    python classify.py model.tflite photo.jpg ...

    pip install numpy pillow onnxruntime
    python classify.py model.onnx photo.jpg ...

The script reads the size of the input and the labels from `<file>.json`, which the export wrote
beside the file. It reads images as the training did. An image file that cannot be read is named in
a line of its own; the others are classified, and the exit status is 1.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads an exported file.

    Args:
        path: a .tflite or .onnx file.

    Returns:
        A function from a batch of images, (batch, height, width, channels), to logits, (batch,
        classes).
    """
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda batch: session.run(["logits"], {"images": batch})[0]
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(str(path)).get_signature_runner()
    return lambda batch: signature(images=batch)["logits"]


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
    batch, height, width, channels = description["input"]["shape"]
    all_read = True
    for path in arguments.images:
        try:
            image = read_image(path, (height, width), channels)
        except ValueError as error:
            print(error, file=sys.stderr)
            all_read = False
            continue
        images = np.repeat(image[None].astype("float32"), batch or 1, axis=0)
        logits = run(images)[0].astype("float64")
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = shares.argsort()[::-1][: arguments.top]
        labels = description["labels"] or [str(i) for i in range(len(shares))]
        print(f"{path}: " + ", ".join(f"{labels[i]} {shares[i]:.1%}" for i in best))
    if not all_read:
        sys.exit(1)


# ---- Reading an image file: the same lines as in keras_dynnets/core/photos.py.

MARGIN = 256 / 224  # what fits into an image, divided by the middle that is cut out of it
ORIENTATION = 0x0112  # the number of the field in EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
RIGHT_TO_LEFT = (2, 3, 6, 7)  # orientations that put the end of the file's rows or columns left
BOTTOM_TO_TOP = (3, 4, 7, 8)  # ... and on top
LARGE = 500_000  # pixels from which a JPEG is decoded at a reduced size
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")  # gray with 16 bits a pixel

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def read_image(path: str | os.PathLike, size: int | Sequence[int], channels: int = 3) -> np.ndarray:
    """Reads an image file as an array, in the same steps for training and for inference.

    1. The image is turned upright as its EXIF data say.
    2. It gets 8 bits a channel: of 16 bits the upper 8 are kept. Transparent parts become white.
       Of an animation the first frame is taken.
    3. Its middle is cut out and resized (bilinear): the largest part with the shape of `size` that
       fits into the image, made smaller by 1.14. For squares this is the usual evaluation on
       ImageNet, which resizes to 256 pixels and takes the middle 224. An image of exactly `size`
       is used whole.

    A JPEG of at least half a megapixel that is at least twice as large as needed is decoded at a
    half, a quarter or an eighth of its size, which is several times faster. Pixels then differ from
    those of an image that is decoded whole and resized: on photos by about 1 of 255 on average.

    Args:
        path: the file, of any format that Pillow reads.
        size: height and width in pixels, one number for a square or a pair (height, width).
        channels: 3 for colour, 1 for gray.

    Returns:
        The image, uint8 (height, width, channels).

    Raises:
        ValueError: the file cannot be read as an image, whatever the cause, or `size` or `channels`
            is not valid. The message is one line that names the file.

    Example:
        >>> model.predict(read_image("photo.jpg", 224)[None])
    """
    height, width = pair = height_and_width(size)

    def middle(whole_width: int, whole_height: int) -> Box:
        if (whole_width, whole_height) == (width, height):
            return 0, 0, width, height
        scale = min(whole_width / width, whole_height / height) / MARGIN
        left, top = (whole_width - scale * width) / 2, (whole_height - scale * height) / 2
        return left, top, left + scale * width, top + scale * height

    return read_part(path, pair, channels, middle)


def read_part(
    path: str | os.PathLike,
    size: tuple[int, int],
    channels: int,
    part: Callable[[int, int], Box],
) -> np.ndarray:
    """Reads a part of an image file, in the steps of `read_image`.

    Args:
        path: the file.
        size: (height, width) in pixels of the result.
        channels: 3 for colour, 1 for gray.
        part: gives the part to resize, from the width and the height of the upright image.

    Returns:
        The part, uint8 (height, width, channels).

    Raises:
        ValueError: the file cannot be read as an image, or there are not 3 or 1 channels.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels is 3 for colour or 1 for gray, not {channels!r}")
    try:
        with Image.open(path) as image:
            return _resized_part(image, size, channels, part)
    except Exception as error:  # Pillow raises errors of many kinds on files that are damaged
        raise ValueError(
            f"{os.fspath(path)} cannot be read as an image ({_reason(error)}); replace the file or "
            "remove it"
        ) from error


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Gives the height and the width that a size means.

    Args:
        size: one number for a square, or a pair (height, width).

    Raises:
        ValueError: the size is neither, or not positive.
    """
    pair: tuple = (size, size) if np.ndim(size) == 0 else (*size,)  # pyright: ignore
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in pair):
        raise ValueError(f"size is a number of pixels or a pair (height, width), not {size!r}")
    return int(pair[0]), int(pair[1])


def _resized_part(
    image: Image.Image, size: tuple[int, int], channels: int, part: Callable[[int, int], Box]
) -> np.ndarray:
    height, width = size
    jpeg = image.format in ("JPEG", "MPO")
    if not jpeg:
        image.load()  # the orientation of a PNG may stand behind its pixels
    orientation = _orientation(image)
    sideways = orientation in SIDEWAYS
    whole_width, whole_height = image.size[::-1] if sideways else image.size
    left, top, right, bottom = part(whole_width, whole_height)
    scale = 1.0
    if jpeg and whole_width * whole_height >= LARGE:
        scale = _reduced(image, min((right - left) / width, (bottom - top) / height))
    image = _opaque(image, channels)
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    # A reduced size is rounded up; turned, the pixel that is not full lies at the beginning.
    x = image.width - whole_width / scale if orientation in RIGHT_TO_LEFT else 0.0
    y = image.height - whole_height / scale if orientation in BOTTOM_TO_TOP else 0.0
    box = (
        max(0.0, left / scale + x),
        max(0.0, top / scale + y),
        min(image.width, right / scale + x),
        min(image.height, bottom / scale + y),
    )
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    return np.array(image).reshape(height, width, channels)


def _orientation(image: Image.Image) -> int:
    """Gives the orientation, 1 to 8; EXIF data that are damaged say nothing."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1


def _reduced(image: Image.Image, factor: float) -> float:
    """Makes a JPEG decode at 1/2, 1/4 or 1/8 of its size, but not smaller than 1/factor.

    Returns:
        The width of the image divided by the width that it is decoded at.
    """
    scale = next((s for s in (8, 4, 2) if s <= factor), 1)
    width, height = image.size
    drafted = image.draft(None, (width // scale, height // scale)) if scale > 1 else None
    return width / drafted[1][2] if drafted else 1.0


def _opaque(image: Image.Image, channels: int) -> Image.Image:
    """Gives an image in gray or colour of 8 bits, with white where it is transparent."""
    if image.mode in DEEP or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = _eight_bits(image)
    elif image.mode[0] in "IF":
        raise ValueError(
            f"its pixels are numbers without a largest one, Pillow's mode {image.mode}; save it "
            "with 8 or 16 bits a channel"
        )
    elif image.has_transparency_data:
        key = image.info.get("transparency")
        if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
            # The colour of 16 bits a channel, of which Pillow keeps the upper 8 alone.
            image.info["transparency"] = tuple(value >> 8 for value in key)
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image.convert("L") if channels == 1 and image.mode != "L" else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Keeps the upper 8 bits of deep gray pixels."""
    values = np.asarray(image)
    tiff = getattr(image, "tag_v2", {})
    bits = tiff.get(258, (16,))[0]  # the field BitsPerSample; a TIFF may have 12
    gray = (values >> (bits - 8)).astype("uint8")
    if tiff.get(262) == 0:  # the field PhotometricInterpretation: 0 is white
        gray = 255 - gray
    if "transparency" in image.info:
        gray[values == image.info["transparency"]] = 255
    return Image.fromarray(gray)


def _reason(error: Exception) -> str:
    """Gives the cause of an error in one short line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is in no format that Pillow knows"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:200] or type(error).__name__


# ---- The end of these lines.


if __name__ == "__main__":
    main()
