"""Draw the contact sheet: one image with the chosen, the usable and the rejected images."""

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from stages.images.quality.decode import WHITE, decode, fit, flatten

THUMB, GAP, LINE, MARGIN, COLUMNS = 148, 14, 17, 36, 8
ROW, HEADING = THUMB + 2 * LINE + 2 * GAP, 48
MOST_IMAGES = 96
PAPER, INK, FAINT, WELL = (250, 249, 246), (33, 33, 36), (124, 122, 118), (237, 235, 229)
COLOURS = {"train": (26, 127, 84), "holdout": (37, 99, 190), "usable": (150, 147, 140), "rejected": (190, 62, 50)}
HEADINGS = {"train": "Training images", "holdout": "Held out", "usable": "Usable, not chosen", "rejected": "Rejected"}


def contact_sheet(title: str, table: pd.DataFrame, raw: Path) -> Image.Image:
    """Draw the first MOST_IMAGES rows of a ranked manifest."""
    counts, parts = table["part"].value_counts(), list(table.head(MOST_IMAGES).groupby("part", sort=False))
    height = 2 * MARGIN + 40 + sum(HEADING + -(-len(rows) // COLUMNS) * ROW for _, rows in parts)
    sheet = Image.new("RGB", (2 * MARGIN + COLUMNS * (THUMB + GAP) - GAP, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 6), title, INK, ImageFont.load_default(26))
    top = MARGIN + 40
    for part, rows in parts:
        cut = f", the first {len(rows)} shown" if len(rows) < counts[part] else ""
        pen.rounded_rectangle([MARGIN, top + 8, MARGIN + 6, top + 28], 3, COLOURS[part])
        pen.text((MARGIN + 16, top + 7), f"{HEADINGS[part]} ({counts[part]}){cut}", INK, ImageFont.load_default(17))
        top += HEADING
        for i, row in enumerate(rows.itertuples()):
            _draw_image(sheet, (MARGIN + i % COLUMNS * (THUMB + GAP), top + i // COLUMNS * ROW), row, raw)
        top += -(-len(rows) // COLUMNS) * ROW
    return sheet


def _draw_image(sheet: Image.Image, corner: tuple[int, int], row: Any, raw: Path) -> None:
    (left, top), pen = corner, ImageDraw.Draw(sheet)
    font, small_font = ImageFont.load_default(13), ImageFont.load_default(12)
    pen.rounded_rectangle([left, top, left + THUMB - 1, top + THUMB - 1], 8, WELL)
    score = f"{row.score:.2f}" if row.phash else ""
    if row.phash:
        image = thumbnail(raw / row.file, THUMB)
        corners = Image.new("L", image.size, 0)
        ImageDraw.Draw(corners).rounded_rectangle([0, 0, image.width - 1, image.height - 1], 8, 255)
        sheet.paste(image, (left + (THUMB - image.width) // 2, top + (THUMB - image.height) // 2), corners)
    else:
        pen.text((left + THUMB / 2, top + THUMB / 2), "no image", FAINT, font, anchor="mm")
    room = THUMB - (pen.textlength(score, font) + 8 if score else 0)
    pen.text((left, top + THUMB + 5), _shorten(pen, row.file.partition("/")[2], font, room), INK, font)
    pen.text((left + THUMB, top + THUMB + 5), score, COLOURS[row.part], font, anchor="ra")
    pen.text((left, top + THUMB + 5 + LINE), _shorten(pen, row.note, small_font, THUMB), FAINT, small_font)


def thumbnail(path: Path, side: int) -> Image.Image:
    """Return a thumbnail of an image file for the contact sheet, with a longer side of `side`."""
    return fit(flatten(decode(path.read_bytes())[0], WHITE), side, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _shorten(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Replace the middle of a label by dots until it fits under its thumbnail."""
    text = short = " ".join(text.split())
    keep = len(text)
    while keep > 4 and pen.textlength(short, font) > room:
        keep -= 1
        short = text[: keep * 2 // 3] + "..." + text[len(text) - keep // 3 :]
    return short
