"""Draw text that stays within its width; `{}` stands for the token of a prompt and is drawn as a bar."""

import functools
import math
import re
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont, truetype

SLOT = "{}"
SLOT_WIDTH = 2.6  # of the font size
SMALLEST, LINE_HEIGHT = 11, 1.42
Color, XY = tuple[int, int, int], tuple[float, float]


@functools.cache
def load_font(size: int, bold: bool = False) -> FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib: the same glyphs on every machine, far beyond Latin."""
    return truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size)


def fit(text: str, size: int, width: float, bold: bool = False) -> tuple[str, FreeTypeFont]:
    """Return `text` and the largest font up to `size` in which it fits `width` px; cut if the smallest is too large."""
    for font in (load_font(smaller, bold) for smaller in range(size, SMALLEST - 1, -1)):
        if font.getlength(text) <= width:
            return text, font
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", font


def measure(text: str, font: FreeTypeFont) -> float:
    """Return the width of a text with slots, in px."""
    return sum(font.getlength(part) for part in text.split(SLOT)) + text.count(SLOT) * SLOT_WIDTH * font.size


def wrap(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """Return lines of at most `width` px, broken between words, and within a word that is longer than a line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if measure(longer, font) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for piece in re.findall(r"\{\}|.", word):
            if lines[-1] and measure(lines[-1] + piece, font) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def draw_line(
    page: Image.Image, xy: XY, text: str, size: int, color: Color, *, width: float = math.inf, bold: bool = False
) -> float:
    """Draw a line from `xy` (left, baseline), shrunk to `width`; return the width that it takes."""
    text, font = fit(text, size, width, bold)
    ImageDraw.Draw(page).text(xy, text, color, font, anchor="ls")
    return font.getlength(text)


class Paragraph:
    """A prompt that is wrapped to `width` px."""

    def __init__(self, text: str, size: int, width: float) -> None:
        self._font = load_font(size)
        self._lines = wrap(text, self._font, width)
        self.height = round(len(self._lines) * size * LINE_HEIGHT)

    def draw(self, page: Image.Image, left: float, top: float, *, color: Color, bar: Color) -> None:
        """Draw the lines from their upper left corner, each slot as a rounded bar."""
        pen, size, width = ImageDraw.Draw(page), self._font.size, SLOT_WIDTH * self._font.size
        mask = rounded_mask((round(width) - 4, round(0.92 * size)), 0.3 * size)
        for i, line in enumerate(self._lines):
            x, y = left, round(top + size + i * size * LINE_HEIGHT)
            for j, part in enumerate(line.split(SLOT)):
                if j:
                    page.paste(bar, (round(x) + 2, y - round(0.78 * size)), mask)
                    x += width
                pen.text((x, y), part, color, self._font, anchor="ls")
                x += self._font.getlength(part)


def rounded_mask(size: tuple[int, int], radius: float, outline: int = 0) -> Image.Image:
    """Draw a mask with round corners, or of the outline alone with that opacity, antialiased by 4x supersampling."""
    mask, box = Image.new("L", (4 * size[0], 4 * size[1]), 0), [0, 0, 4 * size[0] - 1, 4 * size[1] - 1]
    style = {"outline": outline, "width": 5} if outline else {"fill": 255}
    ImageDraw.Draw(mask).rounded_rectangle(box, 4 * radius, **style)
    return mask.resize(size, Image.Resampling.BOX)
