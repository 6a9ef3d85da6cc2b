"""A picture of any shape => a square, never squashed."""

import numpy as np
from PIL import Image

from stages.images.quality.background import colour, planes, subject
from stages.images.quality.decode import decode, flatten

WHITE = (255, 255, 255)


def resize_to_square(content: bytes, side: int, fit: str, background: str) -> Image.Image:
    """A file's bytes => RGB, `side` x `side`: upright, transparency on a plain ground, padded or cropped.

    `background` is what shows through transparency and fills what padding adds: white, or the picture's own border
    colour, which for a transparent border is white. Cropping keeps the square that holds most of the subject.
    """
    image = decode(content, max_megapixels=float("inf")).image
    ground = _ground(image, background)
    image = flatten(image, ground)
    if fit == "crop":
        image = image.crop(_crop(image))
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    if image.size == (side, side):
        return image
    whole = Image.new("RGB", (side, side), ground)
    whole.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return whole


def _ground(image: Image.Image, background: str) -> tuple[int, int, int]:
    if background == "white":
        return WHITE
    if image.mode != "RGBA":
        return colour(np.asarray(image))
    # What a transparent pixel's colour is, is chance (often black): only opaque borders have a colour.
    return colour(np.asarray(flatten(image, WHITE)))


def _crop(image: Image.Image) -> tuple[int, int, int, int]:
    """A picture => the square of its shorter side that is centred on the subject, as far as the picture goes."""
    side = min(image.size)
    small = image.resize((64, 64), Image.Resampling.BOX)
    pixels = np.asarray(small)
    mask = subject(planes(pixels), np.array(colour(pixels)))
    rows, columns = np.nonzero(mask) if mask.any() else (np.array([31.5]), np.array([31.5]))
    left = (columns.mean() + 0.5) / 64 * image.width - side / 2
    top = (rows.mean() + 0.5) / 64 * image.height - side / 2
    left = round(min(max(left, 0), image.width - side))
    top = round(min(max(top, 0), image.height - side))
    return (left, top, left + side, top + side)
