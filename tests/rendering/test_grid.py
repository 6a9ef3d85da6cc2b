"""The grid and its text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.models.params import Concept, Model
from stages.rendering.draw_text import fit, load_font, measure, wrap
from stages.rendering.grid import BACKGROUND, MARGIN, TITLE, Layout, draw_grid
from stages.rendering.jobs import RenderInputs
from stages.rendering.params import Render

LONG = (
    "A hyper-realistic cinematic illustration of {} soaring through a dramatic sky, glowing embers around it, 4k " * 2
)
SUBJECTS = {"cat": "Cat", "early": "data/embedding/snapshots/step-000010.safetensors"}
COLORS = {"initializer": (10, 20, 200), "word": (200, 60, 10), "cat": (20, 160, 60), "early": (150, 30, 160)}


def content(
    *prompts: str,
    seeds: int = 1,
    training: int = 3,
    side: int = 64,
    tokens: tuple = ("<c>", "dragon"),
    subjects: tuple = (),
) -> tuple:
    """Return the arguments of `draw_grid`."""
    concept = Concept(placeholder_token=tokens[0], initializer_token=tokens[1])
    render = Render(prompts={f"p{i}": prompt for i, prompt in enumerate(prompts)}, seeds=list(range(seeds)))
    render = render.model_copy(update={"subjects": {name: SUBJECTS[name] for name in subjects}})
    inputs = RenderInputs(Model(), concept, render, Path())
    renders = {job: Image.new("RGB", (side, side), COLORS[job.subject]) for job in inputs.jobs()}
    return inputs, renders, [Image.new("RGB", (side, side), "green")] * training


@pytest.mark.parametrize("seeds", [1, 3, 9])
def test_every_image_is_at_its_position(seeds: int):
    inputs, renders, training = content("a {}", "a {} at night", seeds=seeds, subjects=("cat", "early"))
    page, layout = draw_grid(inputs, renders, training), Layout(inputs, training[0], 3)
    width, height = layout.image
    assert width >= 160
    for job in renders:
        top = layout.header + 92 + (job.prompt == "p1") * (height + 16)
        group = list(COLORS).index(job.subject)
        left = layout.left + group * (seeds * (width + 10) - 10 + 44) + job.seed * (width + 10)
        assert page.getpixel((left + width // 2, top + height // 2)) == COLORS[job.subject]
    assert page.getpixel((layout.left + layout.strip // 2, MARGIN + TITLE + layout.strip // 2)) == (0, 128, 0)


@pytest.mark.parametrize(
    "content",
    [
        content(LONG, LONG * 4, "{}", seeds=3),
        content("x" * 400 + "{}" + "y" * 50, training=0),
        content("{}" * 40, training=200),
        content("a {}", training=7, tokens=("<" + "w" * 120 + ">", "z" * 90)),
        content("a {}", seeds=12, training=1, side=8),
        content("a {}", subjects=("cat", "early")),
    ],
    ids=["long prompts", "wide word", "many slots and images", "long tokens", "many seeds", "more subjects"],
)
def test_margins_and_gaps_stay_empty(content: tuple):
    pixels, layout = np.array(draw_grid(*content)), Layout(content[0], next(iter(content[1].values())), len(content[2]))
    assert draw_grid(*content).tobytes() == pixels.tobytes()
    assert (pixels[layout.header :, layout.left - 20 : layout.left - 4] == BACKGROUND).all()
    pixels[MARGIN - 24 : -MARGIN, MARGIN - 2 : -MARGIN] = BACKGROUND
    assert (pixels == BACKGROUND).all()


def test_wrap_keeps_every_character_and_the_width():
    font = load_font(15)
    for text in (LONG, "x" * 500, "a {}{}{} b", "{}, a dragon-like Pokémon with blazing orange scales", "短い {} 文"):
        lines = wrap(text, font, 216)
        assert "".join("".join(lines).split()) == "".join(text.split())
        assert max(measure(line, font) for line in lines) <= 216


def test_fit_shrinks_before_it_cuts():
    text, font = fit("dragon", 26, 500)
    assert (text, font.size) == ("dragon", 26)
    text, font = fit("dragon" * 5, 26, 250)
    assert text == "dragon" * 5
    assert font.size < 26
    text, font = fit("dragon" * 50, 26, 250)
    assert text.endswith("…")
    assert font.getlength(text) <= 250
