"""Draw the grid: the training images, then every prompt with the initializer token, the learned embedding and more."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from stages.rendering.draw_text import Paragraph, draw_line, load_font, rounded_mask
from stages.rendering.jobs import Job, RenderInputs

MARGIN, TITLE, HEADER, RADIUS = 64, 92, 92, 10
GAP, ROW_GAP, GROUP_GAP, STRIP_GAP = 10, 16, 44, 34
BACKGROUND, INK, GRAY, ACCENT, PALE = (251, 250, 247), (29, 29, 33), (112, 109, 102), (186, 70, 20), (246, 217, 199)
STRIP_ROWS = 2
LONG = 60  # characters; longer prompts are set in a smaller font and a wider column


class Row(NamedTuple):
    """The renders of one prompt and setting; a long label makes the row higher."""

    top: int
    height: int
    label: Paragraph


class Layout:
    """Sizes and positions in pixels; renders are at least 160 px wide, wider if seeds are few or images are large."""

    def __init__(self, inputs: RenderInputs, image: Image.Image, training: int) -> None:
        prompts, self._seeds, self._subjects = inputs.render.prompts, inputs.render.seeds, list(_notes(inputs))
        width = {1: 280, 2: 240, 3: 200, 4: 200}.get(len(self._seeds), 160) + (56 if image.width >= 256 else 0)
        self.image = (width, max(1, round(width * image.height / image.width)))
        self.group = len(self._seeds) * (width + GAP) - GAP  # the columns of one subject
        self.left = MARGIN + (340 if max(map(len, prompts.values())) > LONG else 250)
        renders = len(self._subjects) * (self.group + GROUP_GAP) - GROUP_GAP
        self.strip_columns = max(1, min(training, renders // 120))
        self.strip_rows = min(STRIP_ROWS, -(-training // self.strip_columns))
        self.strip = min(200, (renders + GAP) // self.strip_columns - GAP)
        self.header = MARGIN + TITLE + (self.strip_rows * (self.strip + GAP) + STRIP_GAP if self.strip_rows else 0)
        self.rows, top = {}, self.header + HEADER
        for (name, prompt), setting in product(prompts.items(), inputs.render.settings()):
            text = f"{prompt} ({setting.name})" if setting.name else prompt
            label = Paragraph(text, 20 if len(prompt) <= LONG else 15, self.left - MARGIN - 34)
            self.rows[name, setting] = Row(top, max(self.image[1], label.height), label)
            top += self.rows[name, setting].height + ROW_GAP
        self.page = (self.left + renders + MARGIN, top - ROW_GAP + MARGIN)

    def column(self, subject: str, seed: int) -> int:
        """Return the left edge of the grid's column of a subject and a seed."""
        group, i = self._subjects.index(subject), self._seeds.index(seed)
        return self.left + group * (self.group + GROUP_GAP) + i * (self.image[0] + GAP)


def _notes(inputs: RenderInputs) -> dict[str, str]:
    """Return a note for the heading of every subject in the grid, from left to right."""
    tokens, others = inputs.tokens(), inputs.render.subjects
    notes = {file.stem: "snapshot" for file in inputs.snapshots}
    notes |= {name: "plain text" if tokens[name] == text else Path(text).name for name, text in others.items()}
    notes |= {other.compare.subject: "another model" for other in inputs.compared}
    return {"initializer": "initializer token", "word": "learned embedding"} | notes


def draw_grid(inputs: RenderInputs, renders: dict[Job, Image.Image], training: list[Image.Image]) -> Image.Image:
    """Return the grid as an RGB image."""
    layout = Layout(inputs, next(iter(renders.values())), len(training))
    page = Image.new("RGB", layout.page, BACKGROUND)
    _draw_title(page, inputs, len(training))
    _draw_training_images(page, training, layout)
    _draw_header(page, inputs, layout)
    for row in layout.rows.values():
        row.label.draw(page, MARGIN, row.top + (row.height - row.label.height) / 2, color=INK, bar=PALE)
    for job, image in renders.items():
        _draw_image(
            page, image, (layout.column(job.subject, job.seed), layout.rows[job.prompt, job.setting].top), layout.image
        )
    return page


def _draw_title(page: Image.Image, inputs: RenderInputs, count: int) -> None:
    placeholder, initializer = inputs.concept.placeholder_token, inputs.concept.initializer_token
    title = f"{placeholder}, trained on {count} image{'' if count == 1 else 's'}"
    subtitle = f"Same prompt, same noise, same frozen model. Only “{initializer}” becomes {placeholder}."
    draw_line(page, (MARGIN, MARGIN + 22), title, 38, INK, width=page.width - 2 * MARGIN, bold=True)
    draw_line(page, (MARGIN, MARGIN + 58), subtitle, 19, GRAY, width=page.width - 2 * MARGIN)


def _draw_training_images(page: Image.Image, images: list[Image.Image], layout: Layout) -> None:
    """Draw the strip of training images; if it is too short for all, its last position counts the others."""
    side, columns, capacity = layout.strip, layout.strip_columns, layout.strip_columns * layout.strip_rows
    shown = images if len(images) <= capacity else images[: capacity - 1]
    step, top = side + GAP, MARGIN + TITLE
    corners = [(layout.left + i % columns * step, top + i // columns * step) for i in range(capacity)]
    for image, corner in zip(shown, corners, strict=False):
        _draw_image(page, image, corner, (side, side))
    if len(shown) < len(images):
        center = (corners[-1][0] + side / 2, corners[-1][1] + side / 2)
        ImageDraw.Draw(page).text(center, f"+ {len(images) - len(shown)}", GRAY, load_font(20), anchor="mm")
    draw_line(page, (MARGIN, top + side / 2 + 8), "Training images", 20, INK)


def _draw_header(page: Image.Image, inputs: RenderInputs, layout: Layout) -> None:
    top = layout.header
    draw_line(page, (MARGIN, top + 40), "Prompt", 15, GRAY)
    for subject, note in _notes(inputs).items():
        left = layout.column(subject, inputs.render.seeds[0])
        rule, color = (ACCENT, ACCENT) if subject == "word" else (GRAY, INK)
        ImageDraw.Draw(page).rounded_rectangle([left, top, left + layout.group - 1, top + 3], 2, rule)
        title, limit = inputs.titles()[subject], 0.75 * layout.group
        used = draw_line(page, (left, top + 40), title, 26, color, width=limit, bold=True) + 14
        if load_font(15).getlength(note) <= layout.group - used:
            draw_line(page, (left + used, top + 40), note, 15, GRAY)
        for seed in inputs.render.seeds:
            position = (layout.column(subject, seed), top + 76)
            draw_line(page, position, f"seed {seed}", 13, GRAY, width=layout.image[0])


def _draw_image(page: Image.Image, image: Image.Image, corner: tuple[int, int], box: tuple[int, int]) -> None:
    """Draw an image of the grid, scaled to fit and centered in a box, with round corners and a thin outline."""
    scale = min(box[0] / image.width, box[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    left, top = corner[0] + (box[0] - size[0]) // 2, corner[1] + (box[1] - size[1]) // 2
    page.paste(image.resize(size, Image.Resampling.LANCZOS), (left, top), rounded_mask(size, RADIUS))
    page.paste(INK, (left, top, left + size[0], top + size[1]), rounded_mask(size, RADIUS, outline=28))
