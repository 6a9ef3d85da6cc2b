"""Resize images of any shape to squares, without distortion."""

import numpy as np
from PIL import Image, ImageOps

from stages.images.quality.background import PLAIN, border_colour, colour_distance
from stages.images.quality.decode import WHITE, decode, flatten


def resize_to_square(content: bytes, side: int, fit: str, background: str) -> tuple[Image.Image, dict]:
    """Decode a file; return it as RGB, `side` x `side`, padded or cropped, and the sizes for its row of the index.

    `background` is the colour behind transparent pixels and of the padding: white, or the colour of the image's border,
    which is white where the border is transparent. Cropping keeps the square with most of the subject; as Stable
    Diffusion XL defines it (Podell et al. 2023, sec. 2.2), the top and left of the crop are measured after resizing.
    """
    image, _ = decode(content)
    # A transparent pixel has an arbitrary colour, often black: only opaque borders count.
    colour = WHITE if background == "white" else border_colour(np.asarray(flatten(image, WHITE)))
    image = flatten(image, colour)
    sizes = {"original_size": (image.height, image.width), "crop": (0, 0)}
    if fit == "crop":
        box = _subject_square(image)
        sizes["crop"] = tuple(round(start * side / min(image.size)) for start in (box[1], box[0]))
        image = image.crop(box)
    return ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, colour), sizes


def _subject_square(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the square to crop before resizing: the largest whose center is nearest to that of the subject."""
    pixels = np.asarray(image.resize((64, 64), Image.Resampling.BOX))
    rows, columns = np.nonzero(colour_distance(pixels, border_colour(pixels)) > PLAIN)
    if not rows.size:
        rows = columns = np.array([31.5])
    side = min(image.size)
    left, top = (
        round(min(max((center.mean() + 0.5) / 64 * length - side / 2, 0), length - side))
        for center, length in zip((columns, rows), image.size, strict=True)
    )
    return (left, top, left + side, top + side)
