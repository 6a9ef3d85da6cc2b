"""Letters count as a watermark if they are spread over the image."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stages.images.quality.background import PLAIN, border_colour, colour_distance
from stages.images.quality.watermarks import watermark_shapes


@pytest.mark.parametrize(("cells", "expected"), [(range(4), 16), (range(2), 0)], ids=["everywhere", "in a corner"])
def test_letters_count_where_they_are_everywhere(cells: range, expected: int):
    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    for x in cells:
        for y in cells:
            pen.rectangle((32 * x + 8, 32 * y + 8, 32 * x + 14, 32 * y + 18), "navy")
    pen.rectangle((50, 58, 56, 62), "red")  # another colour
    pen.line((0, 127, 127, 127), "navy", 2)  # too wide for a letter
    pixels = np.asarray(image)
    assert watermark_shapes(pixels, colour_distance(pixels, border_colour(pixels)) > PLAIN) == expected
