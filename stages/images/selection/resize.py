"""Resize images of any shape to squares, without distortion."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from stages.images.quality.background import PLAIN, border_colour, colour_distance
from stages.images.quality.decode import WHITE, decode, flatten


@dataclass(frozen=True)
class Square:
    """A square image, the height and width of the image that it was made of, and the top and left of a crop.

    As Stable Diffusion XL defines it (Podell et al. 2023, sec. 2.2), the crop is measured after resizing; 0 if padded.
    """

    image: Image.Image
    original_size: tuple[int, int]
    crop: tuple[int, int] = (0, 0)


def resize_to_square(content: bytes, side: int, fit: str, background: str) -> Square:
    """Decode a file and return it as RGB, `side` x `side`, padded or cropped.

    `background` is the colour behind transparent pixels and of the padding: white, or the colour of the image's border,
    which is white where the border is transparent. Cropping keeps the square with most of the subject.
    """
    image, _ = decode(content)
    # A transparent pixel has an arbitrary colour, often black: only opaque borders count.
    colour = WHITE if background == "white" else border_colour(np.asarray(flatten(image, WHITE)))
    image, crop = flatten(image, colour), (0, 0)
    size = (image.height, image.width)
    if fit == "crop":
        left, top, right, bottom = _subject_square(image)
        crop = (round(top * side / min(size)), round(left * side / min(size)))
        image = image.crop((left, top, right, bottom))
    return Square(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, colour), size, crop)


def _subject_square(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box of the largest square whose center is as near as possible to the center of the subject."""
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
