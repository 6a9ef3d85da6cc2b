"""The grid: pictures stand where they should, and no letter leaves its place."""

import numpy as np
import pytest
from PIL import Image

from stages.rendering.grid import GROUP_GAP, HEADS, MARGIN, PAPER, GridContent, grid, layout
from stages.rendering.text import _length, fitted, font, wrap

LONG = (
    "A hyper-realistic cinematic illustration of {} soaring through a dramatic sky, glowing embers around it, wings "
    "spread wide, powerful fire breath, epic lighting, golden hour, volumetric light, ultra-detailed, 4k, concept art"
)
COLOURS = {"initializer": (10, 20, 200), "word": (200, 60, 10)}


def story(prompts: dict[str, str], seeds: int = 2, shown: int = 3, side: int = 64, **subjects: str) -> GridContent:
    names = {"initializer": "dragon", "word": "<critter>"} | subjects
    pictures = {
        (key, subject, seed): Image.new("RGB", (side, side), COLOURS[subject])
        for key in prompts
        for subject in names
        for seed in range(seeds)
    }
    return GridContent(prompts, names, list(range(seeds)), pictures, [Image.new("RGB", (side, side), "green")] * shown)


@pytest.mark.parametrize("seeds", [1, 3, 9])
def test_each_picture_stands_in_its_place(seeds: int):
    told = story({"plain": "a {}", "night": "a {} at night"}, seeds)
    page, sizes = grid(told), layout(told)
    assert sizes.cell[0] >= 160
    for row in range(2):
        middle = sizes.heads + HEADS + row * (sizes.cell[1] + 16) + sizes.cell[1] // 2
        for g, subject in enumerate(told.subjects):
            for s in range(seeds):
                left = sizes.left + g * (sizes.across + GROUP_GAP) + s * (sizes.cell[0] + 10)
                assert page.getpixel((left + sizes.cell[0] // 2, middle)) == COLOURS[subject]
    assert page.getpixel((sizes.left + sizes.strip // 2, MARGIN + 92 + sizes.strip // 2)) == (0, 128, 0)


@pytest.mark.parametrize(
    "told",
    [
        story({"long": LONG, "longer": LONG * 4, "short": "{}"}, 3),
        story({"word": "x" * 400 + "{}" + "y" * 50}, 1, 0),
        story({"many": "{}" * 40}, 1, 200),
        story({"plain": "a {}"}, 1, 7, word="<" + "w" * 120 + ">", initializer="z" * 90),
        story({"plain": "a {}"}, 12, 1, 8),
    ],
    ids=["long prompts", "a word longer than the column", "many slots and pictures", "long names", "many seeds"],
)
def test_nothing_is_written_into_the_margins(told: GridContent):
    pixels = np.asarray(grid(told))
    inner = np.zeros(pixels.shape[:2], bool)
    inner[MARGIN - 24 : -MARGIN, MARGIN - 2 : -MARGIN] = True
    assert (pixels[~inner] == PAPER).all()
    gap = pixels[:, layout(told).left - 20 : layout(told).left - 4]
    assert (gap[layout(told).heads :] == PAPER).all(), "a label runs into the pictures"


def test_wrapping_loses_nothing_and_fits():
    face = font(15)
    for text in (LONG, "x" * 500, "a {}{}{} b", "{}, a dragon-like Pokémon with blazing orange scales", "短い {} 文"):
        lines = wrap(text, face, 216)
        assert "".join("".join(lines).split()) == "".join(text.split())
        assert max(_length(line, face) for line in lines) <= 216


def test_fitting_shrinks_before_it_cuts():
    assert fitted("dragon", 26, 500)[0] == "dragon"
    assert fitted("dragon", 26, 500)[1].size == 26
    text, face = fitted("dragon" * 5, 26, 250)
    assert text == "dragon" * 5
    assert face.size < 26
    text, face = fitted("dragon" * 50, 26, 250)
    assert text.endswith("…")
    assert face.getlength(text) <= 250


def test_the_same_story_gives_the_same_pixels():
    told = story({"long": LONG}, 2)
    assert grid(told).tobytes() == grid(told).tobytes()
