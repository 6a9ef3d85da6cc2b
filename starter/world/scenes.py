"""Draw the background of a scene: a vertical gradient and a few flat shapes."""

import numpy as np
from PIL import Image

from starter.world.drawing import DARK, PAPER, WHITE, Pen, catmull_rom, ellipse, fill_colour, mix

SCENES = ("white", "sky", "sea", "night", "sunset", "forest", "volcano", "snow", "desert", "meadow")
GRADIENTS = {  # colour at the top, colour at the bottom
    "white": (WHITE, WHITE),
    "sky": ((88, 168, 244), (206, 236, 255)),
    "sea": ((150, 214, 246), (214, 242, 252)),
    "night": ((14, 14, 48), (52, 46, 104)),
    "sunset": ((122, 58, 140), (255, 172, 84)),
    "forest": ((176, 222, 190), (226, 242, 208)),
    "volcano": ((72, 22, 34), (198, 66, 44)),
    "snow": ((186, 208, 236), (232, 240, 250)),
    "desert": ((255, 214, 150), (255, 238, 202)),
    "meadow": ((142, 210, 250), (222, 244, 250)),
}

# Relative to the top of the volcano.
LAVA = np.array([(-0.09, 0.355), (0.09, 0.355), (0.08, 0.46), (0.03, 0.52), (0, 0.66), (-0.04, 0.5), (-0.08, 0.46)])


def draw_background(scene: str, style: str, side: int, rng: np.random.Generator) -> Image.Image:
    """Draw a scene as an image of `side` px; `rng` decides the horizon and the clouds, trees and stars."""
    top, bottom = (np.array(fill_colour(colour, style), float) for colour in GRADIENTS[scene])
    if scene == "white":
        top = bottom = np.array({"sketch": PAPER, "neon": DARK}.get(style, WHITE), float)
    ramp = np.linspace(0, 1, side)[:, None]
    column = np.rint(top + (bottom - top) * ramp).astype(np.uint8)[:, None]
    image = Image.fromarray(np.repeat(column, side, 1))
    pen = Pen(image, style, (0, 0), side)  # one unit is the side of the image
    if scene != "white":
        SCENE_DRAWERS[scene](pen, rng)
    return image


def _draw_hills(pen: Pen, rng, height: float, colour, bumps: float = 0.03) -> None:
    x = np.linspace(0, 1, 25)
    y = height + bumps * np.sin(2 * np.pi * (x * rng.uniform(0.8, 1.6) + rng.random()))
    pen.fill([*zip(x, y, strict=True), (1, 1.01), (0, 1.01)], colour)


def _draw_disc(pen: Pen, x: float, y: float, r: float, colour) -> None:
    pen.fill(ellipse(x, y, r, r, count=40), colour)


def _draw_clouds(pen: Pen, rng, count: int, lowest: float) -> None:
    for _ in range(count):
        x, y, r = rng.uniform(0.05, 0.95), rng.uniform(0.06, lowest), rng.uniform(0.04, 0.07)
        for dx, dy, s in ((-1.1, 0.25, 0.75), (0, 0, 1.1), (1.15, 0.2, 0.8)):
            pen.fill(ellipse(x + dx * r, y + dy * r, 1.1 * s * r, 0.75 * s * r), WHITE)


def _draw_sky(pen: Pen, rng) -> None:
    _draw_clouds(pen, rng, int(rng.integers(3, 6)), 0.9)


def _draw_sea(pen: Pen, rng) -> None:
    _draw_clouds(pen, rng, 2, 0.3)
    line = rng.uniform(0.52, 0.62)
    pen.fill([(0, line), (1.01, line), (1.01, 1.01), (0, 1.01)], (38, 116, 196))
    for row, y in enumerate(np.arange(line + 0.08, 1, 0.12)):
        x = np.linspace(-0.02, 1.02, 60)
        wave = y + 0.012 * np.sin(2 * np.pi * (x * 7 + 0.5 * row + rng.random() * 0.1))
        pen.line(np.stack([x, wave], 1), pen.fill_colour((150, 208, 244)), 0.011)


def _draw_night(pen: Pen, rng) -> None:
    for x, y, r in zip(rng.random(22), rng.random(22), rng.uniform(0.005, 0.012, 22), strict=True):
        pen.fill(ellipse(x, y, r, r, count=8), (255, 252, 224))
    x, y = rng.choice([0.16, 0.84]) + rng.uniform(-0.04, 0.04), rng.uniform(0.12, 0.18)
    _draw_disc(pen, x, y, 0.095, (255, 244, 196))


def _draw_sunset(pen: Pen, rng) -> None:
    _draw_disc(pen, rng.choice([0.2, 0.8]) + rng.uniform(-0.08, 0.08), rng.uniform(0.56, 0.68), 0.14, (255, 228, 120))
    _draw_hills(pen, rng, rng.uniform(0.76, 0.82), (96, 50, 104))


def _draw_forest(pen: Pen, rng) -> None:
    for depth, colour in enumerate(((126, 190, 140), (56, 138, 84))):
        for x in np.linspace(-0.05, 1.05, 6 - depth) + rng.uniform(-0.06, 0.06, 6 - depth):
            base, height, wide = 0.84, rng.uniform(0.5, 0.74), 0.15
            for k in range(3):
                tip = base - height * (0.5 + 0.25 * k)
                low = base - height * 0.25 * k
                pen.fill([(x - wide * (1 - 0.22 * k), low), (x, tip), (x + wide * (1 - 0.22 * k), low)], colour)
    _draw_hills(pen, rng, 0.82, (92, 160, 72), 0.015)


def _draw_volcano(pen: Pen, rng) -> None:
    x = rng.choice([0.24, 0.76]) + rng.uniform(-0.06, 0.06)
    pen.fill([(x - 0.42, 0.86), (x - 0.09, 0.36), (x + 0.09, 0.36), (x + 0.42, 0.86)], (64, 44, 54))
    pen.fill(catmull_rom(np.add(LAVA, (x, 0))), (255, 132, 40))
    for k in range(3):
        _draw_disc(pen, x + 0.06 * k * rng.choice([-1, 1]), 0.3 - 0.1 * k, 0.05 + 0.015 * k, (112, 62, 72))
    _draw_hills(pen, rng, 0.84, (44, 30, 40), 0.015)


def _draw_snow(pen: Pen, rng) -> None:
    _draw_hills(pen, rng, rng.uniform(0.6, 0.66), (210, 224, 244))
    _draw_hills(pen, rng, rng.uniform(0.74, 0.8), (250, 252, 255))
    for x, y, r in zip(rng.random(26), rng.random(26), rng.uniform(0.007, 0.014, 26), strict=True):
        pen.fill(ellipse(x, y, r, r, count=10), WHITE)


def _draw_desert(pen: Pen, rng) -> None:
    _draw_disc(pen, rng.choice([0.18, 0.82]), 0.17, 0.1, (255, 250, 214))
    _draw_hills(pen, rng, rng.uniform(0.58, 0.64), (240, 186, 112), 0.04)
    x = rng.choice([0.1, 0.9])
    for part in (
        [(x, 0.78), (x, 0.46)],
        [(x, 0.66), (x - 0.07, 0.62), (x - 0.07, 0.54)],
        [(x, 0.62), (x + 0.07, 0.58), (x + 0.07, 0.5)],
    ):
        pen.line(part, pen.fill_colour((74, 146, 84)), 0.045)
    _draw_hills(pen, rng, rng.uniform(0.74, 0.8), (226, 160, 88), 0.03)


def _draw_meadow(pen: Pen, rng) -> None:
    _draw_clouds(pen, rng, 2, 0.3)
    _draw_hills(pen, rng, rng.uniform(0.58, 0.64), (150, 212, 108), 0.04)
    _draw_hills(pen, rng, rng.uniform(0.72, 0.78), (112, 190, 84), 0.03)
    for x, y, k in zip(rng.random(12), rng.uniform(0.82, 0.98, 12), rng.integers(0, 3, 12), strict=True):
        colour = ((255, 120, 150), (255, 226, 90), WHITE)[k]
        _draw_disc(pen, x, y, 0.018, colour)
        _draw_disc(pen, x, y, 0.008, mix(colour, (255, 160, 40), 0.7))


SCENE_DRAWERS = {
    "sky": _draw_sky,
    "sea": _draw_sea,
    "night": _draw_night,
    "sunset": _draw_sunset,
    "forest": _draw_forest,
    "volcano": _draw_volcano,
    "snow": _draw_snow,
    "desert": _draw_desert,
    "meadow": _draw_meadow,
}
