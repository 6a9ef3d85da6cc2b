"""Text on a picture that never runs out of its place: fonts, wrapping, and the slot of the word in a prompt."""

import functools
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

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


def write(page: Image.Image, place: tuple[int, int], line: str, face: object, *, ink: tuple, slot: tuple) -> None:
    """One line at `place` (left, baseline), each slot of the word as a rounded bar of the colour `slot`."""
    (x, y), pen = place, ImageDraw.Draw(page)
    for i, part in enumerate(line.split(SLOT)):
        if i:
            mask = round_mask((round(_slot(face)) - 4, round(0.92 * face.size)), 0.3 * face.size)
            page.paste(slot, (round(x) + 2, y - round(0.78 * face.size)), mask)
            x += _slot(face)
        pen.text((x, y), part, ink, face, anchor="ls")
        x += face.getlength(part)


def round_mask(size: tuple[int, int], radius: float, outline: int = 0) -> Image.Image:
    """=> a mask of `size` with round corners, or only its edge, so strong; drawn four times as large, and so smooth."""
    mask, box = Image.new("L", (4 * size[0], 4 * size[1]), 0), [0, 0, 4 * size[0] - 1, 4 * size[1] - 1]
    pen = ImageDraw.Draw(mask)
    if outline:
        pen.rounded_rectangle(box, 4 * radius, outline=outline, width=5)
    else:
        pen.rounded_rectangle(box, 4 * radius, 255)
    return mask.resize(size, Image.Resampling.BOX)


def _length(text: str, face: ImageFont.FreeTypeFont) -> float:
    return sum(face.getlength(part) for part in text.split(SLOT)) + text.count(SLOT) * _slot(face)


def _slot(face: ImageFont.FreeTypeFont) -> float:
    return 2.6 * face.size


def _pieces(word: str) -> list[str]:
    """A word => its characters, a slot being one of them."""
    return [
        piece for part in word.replace(SLOT, f"\0{SLOT}\0").split("\0") for piece in ([part] if part == SLOT else part)
    ]
