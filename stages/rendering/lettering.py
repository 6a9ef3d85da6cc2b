"""Text on a picture that never runs out of its place: fonts, wrapping, and the slot of the word in a prompt."""

import functools
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SLOT = "{}"


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """=> DejaVu Sans, which comes with matplotlib: the same letters on every machine, far beyond Latin."""
    return ImageFont.truetype(FOLDER / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def fitted(text: str, size: int, width: float, bold: bool = False) -> tuple[str, ImageFont.FreeTypeFont]:
    """=> the text and the largest font up to `size` that keeps it within `width` px; cut where 11 px is too large."""
    for smaller in range(size, 10, -1):
        if font(smaller, bold).getlength(text) <= width:
            return text, font(smaller, bold)
    least = font(11, bold)
    while text and least.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", least


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """=> lines of at most `width` px, broken between words, and within a word that is longer than a line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _length(longer, face) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for piece in _pieces(word):
            if lines[-1] and _length(lines[-1] + piece, face) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], line: str, face: object, *, ink: tuple, slot: tuple
) -> None:
    """One line at `place` (left, baseline), each slot of the word as a rounded bar of the colour `slot`."""
    x, y = place
    for i, part in enumerate(line.split(SLOT)):
        if i:
            width, height = _slot(face), face.size
            pen.rounded_rectangle([x + 2, y - 0.78 * height, x + width - 2, y + 0.14 * height], 0.3 * height, slot)
            x += width
        pen.text((x, y), part, ink, face, anchor="ls")
        x += face.getlength(part)


def _length(text: str, face: ImageFont.FreeTypeFont) -> float:
    return sum(face.getlength(part) for part in text.split(SLOT)) + text.count(SLOT) * _slot(face)


def _slot(face: ImageFont.FreeTypeFont) -> float:
    return 2.6 * face.size


def _pieces(word: str) -> list[str]:
    """A word => its characters, a slot being one of them."""
    return [
        piece for part in word.replace(SLOT, f"\0{SLOT}\0").split("\0") for piece in ([part] if part == SLOT else part)
    ]
