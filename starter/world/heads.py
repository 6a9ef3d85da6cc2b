"""Draw a creature's head: ears, horns, pattern, face and eyes of its kind."""

from starter.world.attributes import Creature
from starter.world.drawing import BLACK, INK, WHITE, Pen, catmull_rom, ellipse, mix, rotate

NECK = (0.03, -0.08)
HORN = (255, 240, 206)
SKIN_PINK, NOSE_PINK, CHEEK = (255, 178, 186), (214, 92, 112), (255, 150, 150)
BEAK = (255, 190, 60)
HALF_WIDTHS = {"frog": 0.37, "mouse": 0.31, "bug": 0.31, "owl": 0.36, "bear": 0.36}  # 0.34 for the others
EYES = (-0.07, 0.24)


def draw_head(pen: Pen, creature: Creature, blink: bool, turn: float, body) -> None:
    """Draw the head, rotated by `turn` radians about the neck; `body` is the colour of the skin."""
    pen = pen.transformed(lambda points: rotate(points, NECK, turn))
    light = mix(body, WHITE, 0.45)
    for side in (-1, 1):
        _draw_ear(pen, creature.kind, side, body, light)
    if creature.kind == "bird":
        for lean in (-0.5, 0.0, 0.5):
            pen.polygon(rotate(ellipse(0.03, -0.7, 0.05, 0.13), (0.03, -0.56), lean), body)
    _draw_horns(pen, creature.horns)
    w = HALF_WIDTHS.get(creature.kind, 0.34)
    right = [(0.05, -0.62), (w * 0.8, -0.53), (w + 0.06, -0.3), (w * 0.75, -0.08)]
    left = [(0.05, -0.02), (-w * 0.68, -0.08), (-w + 0.02, -0.3), (-w * 0.7, -0.53)]
    pen.polygon(catmull_rom([*right, *left]), body)
    dark = mix(body, (30, 20, 50), 0.38 if creature.body != "black" else -0.35)
    if creature.pattern == "spotted":
        for x, y, r in ((-0.14, -0.5, 0.05), (-0.03, -0.55, 0.035), (-0.22, -0.38, 0.035)):
            pen.fill(ellipse(x, y, r, r, count=14), dark)
    elif creature.pattern == "striped":
        for x in (-0.06, 0.05, 0.16):
            pen.line([(x, -0.585), (x, -0.48)], pen.fill_colour(dark), 0.04)
    _draw_face(pen, creature.kind, body, light)
    _draw_eyes(pen, blink)


def _draw_eyes(pen: Pen, blink: bool) -> None:
    ink = INK if pen.style != "sketch" else (70, 62, 72)
    for x in EYES:
        if blink:
            pen.line(catmull_rom([(x - 0.07, -0.33), (x, -0.39), (x + 0.07, -0.33)], closed=False), ink, 0.03)
            continue
        pen.fill(ellipse(x, -0.34, 0.095, 0.115), WHITE, styled=False)
        pen.fill(ellipse(x + 0.018, -0.335, 0.07, 0.092), ink, styled=False)
        pen.fill(ellipse(x + 0.035, -0.375, 0.026, 0.03, count=14), WHITE, styled=False)
    for x in (-0.16, 0.32):
        pen.fill(ellipse(x, -0.2, 0.05, 0.032, count=14), CHEEK)


def _draw_ear(pen: Pen, kind: str, side: int, body, light) -> None:
    ear = pen.transformed(lambda points: points * (side, 1) + (0.04, 0))
    match kind:
        case "cat":
            ear.polygon([(0.1, -0.55), (0.3, -0.82), (0.34, -0.4)], body)
            ear.fill([(0.19, -0.58), (0.28, -0.72), (0.3, -0.5)], SKIN_PINK)
        case "fox":
            ear.polygon([(0.06, -0.54), (0.32, -0.92), (0.38, -0.4)], body)
            ear.fill([(0.23, -0.68), (0.32, -0.92), (0.35, -0.66)], (72, 56, 64))
        case "rabbit":
            ear.polygon(ellipse(0.17, -0.78, 0.085, 0.3, 0.16), body)
            ear.fill(ellipse(0.17, -0.78, 0.04, 0.21, 0.16), SKIN_PINK)
        case "bear":
            ear.polygon(ellipse(0.27, -0.54, 0.115, 0.115), body)
            ear.fill(ellipse(0.27, -0.54, 0.055, 0.055), light)
        case "mouse":
            ear.polygon(ellipse(0.32, -0.56, 0.2, 0.2), body)
            ear.fill(ellipse(0.32, -0.56, 0.12, 0.12), SKIN_PINK)
        case "frog":
            ear.polygon(ellipse(0.17, -0.58, 0.13, 0.13), body)
        case "bug":
            curve = [(0.04 + 0.1 * side, -0.55), (0.04 + 0.15 * side, -0.75), (0.04 + 0.28 * side, -0.84)]
            pen.line(catmull_rom(curve, closed=False), pen.outline_colour(body), 0.04)
            ear.polygon(ellipse(0.28, -0.84, 0.06, 0.06, count=16), light)
        case "owl":
            ear.polygon([(0.12, -0.56), (0.38, -0.74), (0.34, -0.38)], body)
        case "dragon":
            fin = [(0.3, -0.36), (0.52, -0.44), (0.44, -0.28), (0.48, -0.2), (0.3, -0.2)]
            ear.polygon(fin, mix(body, BLACK, 0.1))


def _draw_horns(pen: Pen, horns: str) -> None:
    if horns == "two":
        horn = catmull_rom([(0.07, -0.54), (0.1, -0.72), (0.2, -0.88), (0.22, -0.7), (0.19, -0.53)])
        for side in (-1, 1):
            pen.polygon(horn * (side, 1) + (0.05, 0), HORN)
    elif horns == "one":
        pen.polygon([(-0.03, -0.56), (0.07, -0.95), (0.15, -0.56)], (255, 222, 120))


def _draw_face(pen: Pen, kind: str, body, light) -> None:
    ink = pen.outline_colour(body)
    match kind:
        case "bird":
            pen.polygon([(0.02, -0.26), (0.16, -0.1), (0.26, -0.24), (0.14, -0.29)], BEAK)
        case "owl":
            for x in EYES:
                pen.fill(ellipse(x, -0.34, 0.15, 0.165), light)
            pen.polygon([(0.03, -0.25), (0.085, -0.12), (0.14, -0.25)], BEAK)
        case "dragon":
            pen.fill(ellipse(0.14, -0.15, 0.2, 0.12), mix(body, WHITE, 0.22))
            for x in (0.09, 0.2):
                pen.fill(ellipse(x, -0.2, 0.016, 0.02, count=10), ink, styled=False)
            pen.line(catmull_rom([(0.02, -0.12), (0.13, -0.075), (0.25, -0.12)], closed=False), ink, 0.025)
        case "bug":
            pen.line(catmull_rom([(0.03, -0.17), (0.09, -0.12), (0.16, -0.17)], closed=False), ink, 0.025)
        case "frog":
            pen.line(catmull_rom([(-0.15, -0.17), (0.09, -0.08), (0.33, -0.17)], closed=False), ink, 0.028)
        case _:
            pen.fill(ellipse(0.1, -0.17, 0.13, 0.095), mix(light, WHITE, 0.5))
            nose = NOSE_PINK if kind in ("rabbit", "mouse", "cat") else INK
            pen.fill(ellipse(0.1, -0.225, 0.04, 0.028, count=14), nose, styled=False)
            mouth = [(0.03, -0.155), (0.065, -0.125), (0.1, -0.16), (0.135, -0.125), (0.17, -0.155)]
            pen.line(catmull_rom(mouth, closed=False), ink, 0.02)
