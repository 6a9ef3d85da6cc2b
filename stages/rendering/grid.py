"""The grid: what was shown, and what is drawn of every prompt with the word known before and with the one learnt."""

from dataclasses import dataclass

from PIL import Image, ImageDraw

from stages.rendering.text import fitted, font, round_mask, wrap, write

MARGIN, TITLE, HEADS, RADIUS, LEADING = 64, 92, 92, 10, 1.42
GAP, ROW_GAP, GROUP_GAP, STRIP_GAP = 10, 16, 44, 34
PAPER, INK, FAINT = (251, 250, 247), (29, 29, 33), (112, 109, 102)
ACCENT, PALE = (186, 70, 20), (246, 217, 199)
STRIP_ROWS = 2
LONG = 60  # letters; prompts of more are written smaller, in a wider column
NOTES = {"initializer": "the known word", "word": "the new word"}


@dataclass(frozen=True)
class GridContent:
    """The grid's pictures and words: `pictures` by prompt, subject and seed; the `subjects` from left to right."""

    prompts: dict[str, str]
    subjects: dict[str, str]
    seeds: list[int]
    pictures: dict[tuple[str, str, int], Image.Image]
    shown: list[Image.Image]


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels that follow from a story: where columns begin, a cell, a subject's columns, both, the strip."""

    left: int
    cell: tuple[int, int]
    across: int
    content: int
    strip: int
    strip_across: int
    strip_rows: int

    @property
    def heads(self) -> int:
        """Where the strip ends and the heads of the columns begin."""
        return MARGIN + TITLE + (self.strip_rows * (self.strip + GAP) + STRIP_GAP if self.strip_rows else 0)


def layout(story: GridContent) -> Layout:
    """=> sizes: a picture is at least 160 px wide, more where there is room and more to see."""
    image = next(iter(story.pictures.values()))
    width = {1: 280, 2: 240, 3: 200, 4: 200}.get(len(story.seeds), 160) + (56 if image.width >= 256 else 0)
    across = len(story.seeds) * (width + GAP) - GAP
    content = 2 * across + GROUP_GAP
    strip_across = max(1, min(len(story.shown), content // 120))
    long = any(len(prompt) > LONG for prompt in story.prompts.values())
    return Layout(
        left=MARGIN + (340 if long else 250),
        cell=(width, max(1, round(width * image.height / image.width))),
        across=across,
        content=content,
        strip=min(200, (content + GAP) // strip_across - GAP),
        strip_across=strip_across,
        strip_rows=min(STRIP_ROWS, -(-len(story.shown) // strip_across)),
    )


def grid(story: GridContent) -> Image.Image:
    """=> RGB. Every label has its room: rows grow with the text beside them."""
    sizes = layout(story)
    labels = {key: _Label(prompt, sizes.left - MARGIN - 34) for key, prompt in story.prompts.items()}
    heights = {key: max(sizes.cell[1], label.height) for key, label in labels.items()}
    height = sizes.heads + HEADS + sum(heights.values()) + ROW_GAP * (len(heights) - 1) + MARGIN
    page = Image.new("RGB", (sizes.left + sizes.content + MARGIN, height), PAPER)
    _title(page, story)
    _strip(page, story.shown, sizes)
    _heads(page, story, sizes)
    top = sizes.heads + HEADS
    for key, label in labels.items():
        label.write(page, top, heights[key])
        for g, subject in enumerate(story.subjects):
            for s, seed in enumerate(story.seeds):
                x = sizes.left + g * (sizes.across + GROUP_GAP) + s * (sizes.cell[0] + GAP)
                _place(page, story.pictures[key, subject, seed], (x, top), sizes.cell)
        top += heights[key] + ROW_GAP
    return page


class _Label:
    """A prompt beside its row, in the middle of it; a long one in smaller letters."""

    def __init__(self, prompt: str, width: int) -> None:
        self._size = 20 if len(prompt) <= LONG else 15
        self._lines = wrap(prompt, font(self._size), width)
        self.height = round(len(self._lines) * self._size * LEADING)

    def write(self, page: Image.Image, top: int, height: int) -> None:
        face = font(self._size)
        first = top + (height - self.height) / 2 + self._size
        for i, line in enumerate(self._lines):
            write(page, (MARGIN, round(first + i * self._size * LEADING)), line, face, ink=INK, slot=PALE)


def _title(page: Image.Image, story: GridContent) -> None:
    pen, width, count = ImageDraw.Draw(page), page.width - 2 * MARGIN, len(story.shown)
    word, known = story.subjects["word"], story.subjects["initializer"]
    text, face = fitted(f"{word}, taught with {count} picture{'' if count == 1 else 's'}", 38, width, bold=True)
    pen.text((MARGIN, MARGIN + 22), text, INK, face, anchor="ls")
    text, face = fitted(f"Same prompt, same noise, same frozen model. Only “{known}” becomes {word}.", 19, width)
    pen.text((MARGIN, MARGIN + 58), text, FAINT, face, anchor="ls")


def _strip(page: Image.Image, shown: list[Image.Image], sizes: Layout) -> None:
    """The training pictures, in two rows at the most; the others are counted."""
    pen, side, room = ImageDraw.Draw(page), sizes.strip, sizes.strip_across * sizes.strip_rows
    kept = shown if len(shown) <= room else shown[: room - 1]
    places = [
        (
            sizes.left + i % sizes.strip_across * (side + GAP),
            MARGIN + TITLE + i // sizes.strip_across * (side + GAP),
        )
        for i in range(room)
    ]
    for picture, place in zip(kept, places, strict=False):
        _place(page, picture, place, (side, side))
    if len(kept) < len(shown):
        x, y = places[-1]
        pen.text((x + side / 2, y + side / 2), f"+ {len(shown) - len(kept)}", FAINT, font(20), anchor="mm")
    middle = MARGIN + TITLE + side / 2
    pen.text((MARGIN, middle - 4), "What it saw", INK, font(20), anchor="ls")
    pen.text((MARGIN, middle + 20), "the training pictures", FAINT, font(15), anchor="ls")


def _heads(page: Image.Image, story: GridContent, sizes: Layout) -> None:
    pen, top = ImageDraw.Draw(page), sizes.heads
    pen.text((MARGIN, top + 40), "Prompt", FAINT, font(15), anchor="ls")
    for g, (subject, written) in enumerate(story.subjects.items()):
        left = sizes.left + g * (sizes.across + GROUP_GAP)
        rule, ink = (ACCENT, ACCENT) if subject == "word" else (FAINT, INK)
        pen.rounded_rectangle([left, top, left + sizes.across - 1, top + 3], 2, rule)
        text, face = fitted(written, 26, 0.75 * sizes.across, bold=True)
        pen.text((left, top + 40), text, ink, face, anchor="ls")
        used = face.getlength(text) + 14
        if font(15).getlength(NOTES[subject]) <= sizes.across - used:
            pen.text((left + used, top + 40), NOTES[subject], FAINT, font(15), anchor="ls")
        for s, seed in enumerate(story.seeds):
            text, face = fitted(f"seed {seed}", 13, sizes.cell[0])
            pen.text((left + s * (sizes.cell[0] + GAP), top + 76), text, FAINT, face, anchor="ls")


def _place(page: Image.Image, picture: Image.Image, place: tuple[int, int], size: tuple[int, int]) -> None:
    """A picture with round corners and a hairline around it; whole, in the middle of its place."""
    factor = min(size[0] / picture.width, size[1] / picture.height)
    fit = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    small = picture.convert("RGB").resize(fit, Image.Resampling.LANCZOS)
    mask, edge = round_mask(fit, RADIUS), round_mask(fit, RADIUS, outline=28)
    corner = (place[0] + (size[0] - fit[0]) // 2, place[1] + (size[1] - fit[1]) // 2)
    page.paste(small, corner, mask)
    page.paste(INK, (*corner, corner[0] + fit[0], corner[1] + fit[1]), edge)
