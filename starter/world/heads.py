"""A creature's head: ears, horns, pattern, face and eyes, by its kind."""

import numpy as np

from starter.world.attributes import Creature
from starter.world.drawing import INK, Pen, catmull_rom, ellipse, mix, rotate

HORN = (255, 240, 206)


def draw_head(pen: Pen, creature: Creature, blink: bool, turn: float, body) -> None:
    """The head, turned by `turn` radians about the neck; `body` is the colour of the skin."""
    neck = (0.03, -0.08)

    def transform(points):
        return rotate(points, neck, turn)

    light = mix(body, (255, 255, 255), 0.45)
    _draw_ears(pen, creature.kind, transform, body, light)
    if creature.kind == "bird":
        for lean in (-0.5, 0.0, 0.5):
            pen.polygon(transform(rotate(ellipse(0.03, -0.7, 0.05, 0.13), (0.03, -0.56), lean)), body)
    _draw_horns(pen, creature.horns, transform)
    wide = {"frog": 0.37, "mouse": 0.31, "bug": 0.31, "owl": 0.36, "bear": 0.36}.get(creature.kind, 0.34)
    pen.polygon(
        transform(
            catmull_rom(
                [
                    (0.05, -0.62),
                    (wide * 0.8, -0.53),
                    (wide + 0.06, -0.3),
                    (wide * 0.75, -0.08),
                    (0.05, -0.02),
                    (-wide * 0.68, -0.08),
                    (-wide + 0.02, -0.3),
                    (-wide * 0.7, -0.53),
                ]
            )
        ),
        body,
    )
    dark = pen.fill_colour(mix(body, (30, 20, 50), 0.38 if creature.body != "black" else -0.35))
    if creature.pattern == "spotted":
        for x, y, r in ((-0.14, -0.5, 0.05), (-0.03, -0.55, 0.035), (-0.22, -0.38, 0.035)):
            pen.draw.polygon(pen.to_pixels(transform(ellipse(x, y, r, r, count=14))), dark)
    elif creature.pattern == "striped":
        for x in (-0.06, 0.05, 0.16):
            pen.line(transform([(x, -0.585), (x, -0.48)]), dark, 0.04)
    _draw_face(pen, creature.kind, transform, body, light)
    _draw_eyes(pen, blink, transform)


def _draw_eyes(pen: Pen, blink: bool, transform) -> None:
    ink = INK if pen.style != "sketch" else (70, 62, 72)
    for x in (-0.07, 0.24):
        if blink:
            pen.line(
                transform(catmull_rom([(x - 0.07, -0.33), (x, -0.39), (x + 0.07, -0.33)], closed=False)), ink, 0.03
            )
            continue
        pen.draw.polygon(pen.to_pixels(transform(ellipse(x, -0.34, 0.095, 0.115))), (255, 255, 255))
        pen.draw.polygon(pen.to_pixels(transform(ellipse(x + 0.018, -0.335, 0.07, 0.092))), ink)
        pen.draw.polygon(pen.to_pixels(transform(ellipse(x + 0.035, -0.375, 0.026, 0.03, count=14))), (255, 255, 255))
    for x in (-0.16, 0.32):
        pen.draw.polygon(
            pen.to_pixels(transform(ellipse(x, -0.2, 0.05, 0.032, count=14))), pen.fill_colour((255, 150, 150))
        )


def _draw_ears(pen: Pen, kind: str, transform, body, light) -> None:
    for side in (-1, 1):

        def put(points, colour, outline=True, side=side):
            pen.polygon(transform(np.asarray(points) * (side, 1) + (0.04, 0)), colour, outline)

        match kind:
            case "cat":
                put([(0.1, -0.55), (0.3, -0.82), (0.34, -0.4)], body)
                put([(0.19, -0.58), (0.28, -0.72), (0.3, -0.5)], (255, 178, 186), False)
            case "fox":
                put([(0.06, -0.54), (0.32, -0.92), (0.38, -0.4)], body)
                put([(0.23, -0.68), (0.32, -0.92), (0.35, -0.66)], (72, 56, 64), False)
            case "rabbit":
                put(ellipse(0.17, -0.78, 0.085, 0.3, 0.16), body)
                put(ellipse(0.17, -0.78, 0.04, 0.21, 0.16), (255, 178, 186), False)
            case "bear":
                put(ellipse(0.27, -0.54, 0.115, 0.115), body)
                put(ellipse(0.27, -0.54, 0.055, 0.055), light, False)
            case "mouse":
                put(ellipse(0.32, -0.56, 0.2, 0.2), body)
                put(ellipse(0.32, -0.56, 0.12, 0.12), (255, 178, 186), False)
            case "frog":
                put(ellipse(0.17, -0.58, 0.13, 0.13), body)
            case "bug":
                pen.line(
                    transform(
                        catmull_rom(
                            [(0.04 + 0.1 * side, -0.55), (0.04 + 0.15 * side, -0.75), (0.04 + 0.28 * side, -0.84)],
                            closed=False,
                        )
                    ),
                    pen.outline_colour(body),
                    0.04,
                )
                put(ellipse(0.28, -0.84, 0.06, 0.06, count=16), light)
            case "owl":
                put([(0.12, -0.56), (0.38, -0.74), (0.34, -0.38)], body)
            case "dragon":
                put([(0.3, -0.36), (0.52, -0.44), (0.44, -0.28), (0.48, -0.2), (0.3, -0.2)], mix(body, (0, 0, 0), 0.1))


def _draw_horns(pen: Pen, horns: str, transform) -> None:
    if horns == "two":
        for side in (-1, 1):
            horn = catmull_rom([(0.07, -0.54), (0.1, -0.72), (0.2, -0.88), (0.22, -0.7), (0.19, -0.53)])
            pen.polygon(transform(horn * (side, 1) + (0.05, 0)), HORN)
    elif horns == "one":
        pen.polygon(transform([(-0.03, -0.56), (0.07, -0.95), (0.15, -0.56)]), (255, 222, 120))


def _draw_face(pen: Pen, kind: str, transform, body, light) -> None:
    ink = pen.outline_colour(body)
    match kind:
        case "bird":
            pen.polygon(transform([(0.02, -0.26), (0.16, -0.1), (0.26, -0.24), (0.14, -0.29)]), (255, 190, 60))
        case "owl":
            for x in (-0.07, 0.24):
                pen.polygon(transform(ellipse(x, -0.34, 0.15, 0.165)), light, False)
            pen.polygon(transform([(0.03, -0.25), (0.085, -0.12), (0.14, -0.25)]), (255, 190, 60))
        case "dragon":
            pen.polygon(transform(ellipse(0.14, -0.15, 0.2, 0.12)), mix(body, (255, 255, 255), 0.22), False)
            for x in (0.09, 0.2):
                pen.draw.polygon(pen.to_pixels(transform(ellipse(x, -0.2, 0.016, 0.02, count=10))), ink)
            pen.line(transform(catmull_rom([(0.02, -0.12), (0.13, -0.075), (0.25, -0.12)], closed=False)), ink, 0.025)
        case "bug":
            pen.line(transform(catmull_rom([(0.03, -0.17), (0.09, -0.12), (0.16, -0.17)], closed=False)), ink, 0.025)
        case "frog":
            pen.line(transform(catmull_rom([(-0.15, -0.17), (0.09, -0.08), (0.33, -0.17)], closed=False)), ink, 0.028)
        case _:
            pen.polygon(transform(ellipse(0.1, -0.17, 0.13, 0.095)), mix(light, (255, 255, 255), 0.5), False)
            pen.draw.polygon(
                pen.to_pixels(transform(ellipse(0.1, -0.225, 0.04, 0.028, count=14))),
                (214, 92, 112) if kind in ("rabbit", "mouse", "cat") else INK,
            )
            pen.line(
                transform(
                    catmull_rom(
                        [(0.03, -0.155), (0.065, -0.125), (0.1, -0.16), (0.135, -0.125), (0.17, -0.155)], closed=False
                    )
                ),
                ink,
                0.02,
            )
