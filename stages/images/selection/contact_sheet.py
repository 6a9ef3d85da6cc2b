"""A choice => one picture of it: the contact sheet."""

from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

THUMB, GAP, LINE, MARGIN, ACROSS = 148, 14, 17, 36, 8
MOST = 96  # cells; a class of thousands is on the page, not on the sheet
PAPER, INK, FAINT, CELL = (250, 249, 246), (33, 33, 36), (124, 122, 118), (237, 235, 229)
COLOURS = {"train": (26, 127, 84), "holdout": (37, 99, 190), "usable": (150, 147, 140), "rejected": (190, 62, 50)}


def contact_sheet(title: str, sections: list[tuple[str, str, list[dict]]]) -> Image.Image:
    """(key of COLOURS, heading, cells)s => RGB. A cell: {"image": () -> RGB or None, "name", "note", "score"}."""
    sections = _fit(sections)
    width = 2 * MARGIN + ACROSS * THUMB + (ACROSS - 1) * GAP
    height = 2 * MARGIN + 40 + sum(48 + _rows(cells) * (THUMB + 2 * LINE + 2 * GAP) for _, _, cells in sections)
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 6), title, INK, ImageFont.load_default(26))
    top = MARGIN + 40
    for key, heading, cells in sections:
        pen.rounded_rectangle([MARGIN, top + 8, MARGIN + 6, top + 28], 3, COLOURS[key])
        pen.text((MARGIN + 16, top + 7), heading, INK, ImageFont.load_default(17))
        top += 48
        for i, cell in enumerate(cells):
            left = MARGIN + i % ACROSS * (THUMB + GAP)
            _cell(page, (left, top + i // ACROSS * (THUMB + 2 * LINE + 2 * GAP)), cell, COLOURS[key])
        top += _rows(cells) * (THUMB + 2 * LINE + 2 * GAP)
    return page


def thumbnail(open_image: Callable[[], Image.Image | None], side: int) -> Image.Image | None:
    """=> a picture of at most `side` x `side`, or None where there is none."""
    image = open_image()
    if image is None:
        return None
    factor = min(side / image.width, side / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _fit(sections: list) -> list:
    """At most MOST cells; what is left out is counted in the heading."""
    left, fitted = MOST, []
    for key, heading, cells in sections:
        if not cells:
            continue
        shown = cells[: max(left, 0)]
        left -= len(shown)
        said = heading if len(shown) == len(cells) else f"{heading}, the first {len(shown)} shown"
        fitted.append((key, said, shown))
    return fitted


def _rows(cells: list) -> int:
    return -(-len(cells) // ACROSS)


def _cell(page: Image.Image, place: tuple[int, int], cell: dict, colour: tuple) -> None:
    (left, top), pen = place, ImageDraw.Draw(page)
    pen.rounded_rectangle([left, top, left + THUMB - 1, top + THUMB - 1], 8, CELL)
    small = thumbnail(cell["image"], THUMB)
    if small is None:
        pen.text((left + THUMB / 2, top + THUMB / 2), "no picture", FAINT, ImageFont.load_default(13), anchor="mm")
    else:
        shape = Image.new("L", small.size, 0)
        ImageDraw.Draw(shape).rounded_rectangle([0, 0, small.width - 1, small.height - 1], 8, 255)
        page.paste(small, (left + (THUMB - small.width) // 2, top + (THUMB - small.height) // 2), shape)
    font = ImageFont.load_default(13)
    score = cell["score"]
    room = THUMB - (pen.textlength(score, font) + 8 if score else 0)
    pen.text((left, top + THUMB + 5), shorten(pen, cell["name"], font, room), INK, font)
    pen.text((left + THUMB, top + THUMB + 5), score, colour, font, anchor="ra")
    small_font = ImageFont.load_default(12)
    pen.text((left, top + THUMB + 5 + LINE), shorten(pen, cell["note"], small_font, THUMB), FAINT, small_font)


def shorten(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Text => as much of it as fits, its middle left out."""
    text = " ".join(text.split())
    if pen.textlength(text, font) <= room:
        return text
    keep = len(text)
    while keep > 4 and pen.textlength(text[: keep * 2 // 3] + "..." + text[-(keep // 3) :], font) > room:
        keep -= 1
    return text[: keep * 2 // 3] + "..." + text[-(keep // 3) :]
