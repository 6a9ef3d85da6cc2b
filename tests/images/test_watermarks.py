"""Pieces are those of the library, and letters are counted where they are strewn."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from stages.images.quality.background import colour, planes, subject
from stages.images.quality.watermarks import strewn, watermark_shapes


def masks() -> list[np.ndarray]:
    """Subjects from a few dots to a lattice, of every shape."""
    random = np.random.default_rng(0)
    sizes = [(1, 1), (1, 40), (40, 1), (7, 9), (31, 64), (64, 64)]
    found = [random.random(size) < part for size in sizes for part in (0, 0.05, 0.3, 0.5, 0.7, 0.95, 1)]
    rings = np.hypot(*np.mgrid[-32:32, -32:32]) // 3 % 2 == 0
    return [*found, rings, np.indices((32, 32)).sum(axis=0) % 2 == 0, np.indices((32, 32))[0] % 2 == 0]


def test_there_are_as_many_pieces_as_the_library_finds():
    for mask in masks():
        count = ndimage.label(mask, np.ones((3, 3)))[1]
        assert [strewn(mask, most) for most in (count - 1, count)] == [True, False]


@pytest.mark.parametrize(("places", "found"), [(range(4), 16), (range(2), 0)], ids=["all over", "in a corner"])
def test_letters_count_where_they_are_all_over_the_picture(places: range, found: int):
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    for x in places:
        for y in places:
            draw.rectangle((32 * x + 8, 32 * y + 8, 32 * x + 14, 32 * y + 18), "navy")
    draw.line((0, 127, 127, 127), "red", 2)  # no letter: too wide
    pixels = np.asarray(image)
    mask = subject(planes(pixels), np.array(colour(pixels)))
    assert strewn(mask, len(places) ** 2)
    assert watermark_shapes(planes(pixels), mask) == found
