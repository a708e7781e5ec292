"""Photos that the package carries, for examples that run without any download.

`cat.jpg` shows the cat Chelsea. Stefan van der Walt took the photo and put it into the public
domain (CC0); it is also part of scikit-image.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Lists the names of the photos."""
    return sorted(path.stem for path in FOLDER.glob("*.jpg"))


def photo(name: str = "cat", size: int | tuple[int, int] = 32) -> np.ndarray:
    """Gives a photo as an array.

    Args:
        name: one of `names()`.
        size: height and width in pixels to which the photo is resized, or a pair of both.

    Returns:
        The photo, uint8 (height, width, 3) in [0, 255].

    Raises:
        ValueError: there is no photo of that name, or the size is not positive.

    Example:
        >>> logits = zoo.load("resnet20").predict(examples.photo("cat")[None])
    """
    from PIL import Image

    if name not in names():
        raise ValueError(f"there is no photo {name!r}; give one of {', '.join(names())}")
    height, width = (size, size) if isinstance(size, int) else size
    with Image.open(FOLDER / f"{name}.jpg") as image:
        resized = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
