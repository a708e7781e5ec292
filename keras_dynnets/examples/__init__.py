"""Photos that the package carries, for examples that run as they stand.

`cat.jpg`: the cat Chelsea, by Stefan van der Walt, who has put the photo into the public domain
(CC0); it came with scikit-image.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Lists the names of the photos."""
    return sorted(path.stem for path in FOLDER.glob("*.jpg"))


def photo(name: str = "cat", size: int | tuple[int, int] = 32) -> np.ndarray:
    """Gives a photo as an array, (height, width, 3), uint8 in [0, 255].

    Args:
        name: one of `names()`.
        size: side in pixels, or (height, width), to resize it to.

    Raises:
        ValueError: there is no photo of that name.

    Example:
        >>> logits = zoo.load("dmnn20").predict(examples.photo("cat")[None])
    """
    from PIL import Image

    if name not in names():
        raise ValueError(f"there is no photo {name!r}; there are {', '.join(names())}")
    height, width = (size, size) if isinstance(size, int) else size
    with Image.open(FOLDER / f"{name}.jpg") as image:
        resized = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
