"""The grid: what was shown, and what is drawn of every prompt with the word known before and with the one learnt."""

from dataclasses import dataclass

from PIL import Image, ImageDraw

from stages.rendering.lettering import fitted, font, wrap, write

MARGIN, LABEL, GAP, GROUP_GAP, ROW_GAP, RADIUS = 64, 250, 10, 44, 16, 10
PAPER, INK, FAINT, LINE = (251, 250, 247), (29, 29, 33), (118, 115, 108), (224, 220, 211)
ACCENT, ACCENT_PALE, GREY_PALE = (186, 70, 20), (246, 217, 199), (226, 223, 216)
STRIP = 128
LEADING = 1.42


@dataclass(frozen=True)
class Story:
    """The grid's pictures and words: `pictures` by prompt, subject and seed; the `subjects` from left to right."""

    prompts: dict[str, str]
    subjects: dict[str, str]
    seeds: list[int]
    pictures: dict[tuple[str, str, int], Image.Image]
    shown: list[Image.Image]


def grid(story: Story) -> Image.Image:
    """=> RGB. Every label has its room: columns widen for nothing, rows grow with the text beside them."""
    cell = _cell_size(story)
    across = len(story.seeds) * cell[0] + (len(story.seeds) - 1) * GAP
    content = 2 * across + GROUP_GAP
    content = max(content, 560)
    across = (content - GROUP_GAP) // 2
    left = MARGIN + LABEL
    lines = {key: wrap(prompt, font(_label_size(prompt)), LABEL - 34) for key, prompt in story.prompts.items()}
    heights = {key: max(cell[1], _text_height(lines[key], _label_size(story.prompts[key]))) for key in lines}
    strip_rows = _rows(len(story.shown), content)
    top_of_heads = MARGIN + 92 + strip_rows * (STRIP + GAP) + (34 if strip_rows else 0)
    height = top_of_heads + 92 + sum(heights.values()) + ROW_GAP * (len(heights) - 1) + MARGIN
    page = Image.new("RGB", (left + content + MARGIN, height), PAPER)
    _title(page, story)
    _strip(page, story.shown, (left, MARGIN + 92), content)
    _heads(page, story, [left, left + across + GROUP_GAP], top_of_heads, across)
    top = top_of_heads + 92
    for key, prompt in story.prompts.items():
        _label(page, lines[key], top, cell[1], _label_size(prompt))
        for g, subject in enumerate(story.subjects):
            for s, seed in enumerate(story.seeds):
                x = left + g * (across + GROUP_GAP) + s * (cell[0] + GAP)
                _place(page, story.pictures[key, subject, seed], (x, top), cell)
        top += heights[key] + ROW_GAP
    return page


def _cell_size(story: Story) -> tuple[int, int]:
    """=> width and height of a cell in px: at least 160 wide, in the shape of the pictures."""
    image = next(iter(story.pictures.values()))
    width = 200 if len(story.seeds) <= 4 else 160
    return width, round(width * image.height / image.width)


def _label_size(prompt: str) -> int:
    return 20 if len(prompt) <= 60 else 15


def _text_height(lines: list[str], size: int) -> int:
    return round(len(lines) * size * LEADING)


def _rows(count: int, width: int) -> int:
    """Rows that the pictures shown take; two at the most, the others are counted."""
    return min(2, -(-count // ((width + GAP) // (STRIP + GAP))))


def _title(page: Image.Image, story: Story) -> None:
    pen, width = ImageDraw.Draw(page), page.width - 2 * MARGIN
    count = len(story.shown)
    word, known = story.subjects["word"], story.subjects["initializer"]
    seen = f", learnt from {count} picture{'' if count == 1 else 's'}" if count else ""
    text, face = fitted(f"{word}{seen}", 38, width, bold=True)
    pen.text((MARGIN, MARGIN + 22), text, INK, face, anchor="ls")
    text, face = fitted(f"Same prompt, same noise, same frozen model. Only “{known}” becomes {word}.", 19, width)
    pen.text((MARGIN, MARGIN + 58), text, FAINT, face, anchor="ls")


def _strip(page: Image.Image, shown: list[Image.Image], place: tuple[int, int], width: int) -> None:
    if not shown:
        return
    left, top = place
    pen, across = ImageDraw.Draw(page), (width + GAP) // (STRIP + GAP)
    room = across * _rows(len(shown), width)
    kept = shown if len(shown) <= room else shown[: room - 1]
    for i, picture in enumerate(kept):
        _place(page, picture, (left + i % across * (STRIP + GAP), top + i // across * (STRIP + GAP)), (STRIP, STRIP))
    if len(kept) < len(shown):
        i = room - 1
        x, y = left + i % across * (STRIP + GAP), top + i // across * (STRIP + GAP)
        pen.text((x + STRIP / 2, y + STRIP / 2), f"+ {len(shown) - len(kept)}", FAINT, font(20), anchor="mm")
    middle = top + STRIP / 2
    pen.text((MARGIN, middle - 6), "What it saw", INK, font(20), anchor="ls")
    pen.text((MARGIN, middle + 18), "the training pictures", FAINT, font(15), anchor="ls")


def _heads(page: Image.Image, story: Story, lefts: list[int], top: int, across: int) -> None:
    pen = ImageDraw.Draw(page)
    notes = {"initializer": "the word that it started from", "word": "the new word"}
    for left, (subject, written) in zip(lefts, story.subjects.items(), strict=True):
        colour = ACCENT if subject == "word" else FAINT
        pen.rounded_rectangle([left, top, left + across - 1, top + 3], 2, colour)
        note = notes[subject]
        room = across - font(15).getlength(note) - 24
        text, face = fitted(written, 26, max(room, across / 2), bold=True)
        pen.text((left, top + 40), text, ACCENT if subject == "word" else INK, face, anchor="ls")
        x = left + face.getlength(text) + 14
        note, face = fitted(note, 15, across - (x - left))
        pen.text((x, top + 40), note, FAINT, face, anchor="ls")
    pen.text((MARGIN, top + 40), "Prompt", FAINT, font(15), anchor="ls")
    for left in lefts:
        for s, seed in enumerate(story.seeds):
            width = (across - (len(story.seeds) - 1) * GAP) / len(story.seeds)
            pen.text((left + s * (width + GAP), top + 76), f"seed {seed}", FAINT, font(13), anchor="ls")


def _label(page: Image.Image, lines: list[str], top: int, height: int, size: int) -> None:
    """A prompt beside its row, in the middle of it where it is shorter."""
    pen, face = ImageDraw.Draw(page), font(size)
    first = top + max(0, (height - _text_height(lines, size)) / 2) + size
    for i, line in enumerate(lines):
        write(pen, (MARGIN, round(first + i * size * LEADING)), line, face, ink=INK, slot=ACCENT_PALE)


def _place(page: Image.Image, picture: Image.Image, place: tuple[int, int], size: tuple[int, int]) -> None:
    """A picture with round corners; whole, in the middle of its place."""
    small = picture.convert("RGB")
    factor = min(size[0] / small.width, size[1] / small.height)
    fit = (max(1, round(small.width * factor)), max(1, round(small.height * factor)))
    small = small.resize(fit, Image.Resampling.LANCZOS)
    mask = Image.new("L", (4 * fit[0], 4 * fit[1]), 0)
    ImageDraw.Draw(mask).rounded_rectangle([0, 0, 4 * fit[0] - 1, 4 * fit[1] - 1], 4 * RADIUS, 255)
    mask = mask.resize(fit, Image.Resampling.LANCZOS)
    page.paste(small, (place[0] + (size[0] - fit[0]) // 2, place[1] + (size[1] - fit[1]) // 2), mask)
