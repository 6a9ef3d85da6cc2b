"""Draw a creature in a pose, from back to front."""

from dataclasses import dataclass

import numpy as np

from starter.world.attributes import BELLIES, COLOURS, Creature
from starter.world.drawing import BLACK, WHITE, Pen, catmull_rom, ellipse, mix, rotate
from starter.world.heads import draw_head

FLAME = ((250, 118, 38), (255, 214, 72))
# Outlines, in units of the body.
TORSO = [(0, -0.08), (0.22, 0.05), (0.3, 0.34), (0.2, 0.58), (0, 0.63), (-0.2, 0.58), (-0.3, 0.34), (-0.22, 0.05)]
FLAME_OUTER = [(0, 0.1), (0.13, 0.02), (0.1, -0.12), (0.02, -0.33), (-0.06, -0.16), (-0.13, -0.13), (-0.13, 0.03)]
FLAME_INNER = [(0, 0.06), (0.06, 0), (0.02, -0.14), (-0.07, -0.02)]
LEAF = [(0, 0.08), (0.14, -0.06), (0.07, -0.24), (-0.02, -0.34), (-0.11, -0.22), (-0.13, -0.04)]
ARROW = [(0, -0.32), (0.18, 0.0), (0.03, -0.05), (-0.03, -0.05), (-0.18, 0.0)]
BAT_TIPS = [(0.74, -0.5), (0.78, -0.08), (0.5, 0.2)]
BAT_TOP = [(0, 0), (0.16, -0.28), (0.3, -0.46), (0.5, -0.56), BAT_TIPS[0]]
BAT_EDGE = [*BAT_TOP, (0.68, -0.28), BAT_TIPS[1], (0.58, -0.02), BAT_TIPS[2], (0.3, 0.08), (0.05, 0.16)]
FEATHERS = ((0.56, 0.35), (0.68, 0.02), (0.78, -0.32), (0.84, -0.68))  # length, angle


@dataclass(frozen=True)
class Pose:
    """What differs between images of one creature: angles in radians, `stride` in units of the body."""

    mirror: bool
    tilt: float
    wing: float
    arms: float
    tail: float
    head: float
    blink: bool
    stride: float


def sample_pose(rng: np.random.Generator) -> Pose:
    """Sample a pose."""
    return Pose(
        mirror=bool(rng.random() < 0.5),
        tilt=float(rng.uniform(-0.16, 0.16)),
        wing=float(rng.uniform(-0.62, 0.08)),
        arms=float(rng.uniform(-0.7, 1.0)),
        tail=float(rng.uniform(-0.15, 0.3)),
        head=float(rng.uniform(-0.12, 0.12)),
        blink=bool(rng.random() < 0.12),
        stride=float(rng.uniform(0.0, 0.09)),
    )


def draw_creature(pen: Pen, creature: Creature, pose: Pose) -> None:
    """Draw a creature. It looks to the right; the pen mirrors it."""
    body = COLOURS[creature.body]
    for side in (-1, 1):
        _draw_wing(pen, creature, pose, side)
    _draw_tail(pen, creature, pose, body)  # in front of the wings, so that its tip is visible
    for side in (-1, 1):
        pen.polygon(ellipse(0.17 * side + pose.stride * side, 0.62, 0.15, 0.085), mix(body, BLACK, 0.08))
    pen.polygon(catmull_rom(TORSO), body)
    _draw_body_pattern(pen, creature, body)
    pen.fill(ellipse(0.04, 0.38, 0.17, 0.2), BELLIES[creature.belly])
    for side in (-1, 1):
        shoulder = np.array([0.22 * side, 0.16])
        hand = shoulder + rotate([(0.19 * side, 0.1)], (0, 0), -pose.arms * side * 0.8)[0]
        pen.stroke(np.stack([shoulder, hand]), body, 0.095)
    draw_head(pen, creature, pose.blink, pose.head, body)


def _draw_tail(pen: Pen, creature: Creature, pose: Pose, body) -> None:
    root = (-0.16, 0.5)
    curve = catmull_rom(rotate([root, (-0.46, 0.62), (-0.7, 0.52), (-0.8, 0.3)], root, pose.tail), closed=False)
    pen.stroke(curve, body, 0.105)
    x, y = curve[-1]
    turned = pen.transformed(lambda points: rotate(points, (x, y), pose.tail * 0.6))
    tip = turned.transformed(lambda points: points * 1.15 + (x, y))
    match creature.tail:
        case "flame":
            tip.polygon(catmull_rom(FLAME_OUTER), FLAME[0])
            tip.fill(catmull_rom(FLAME_INNER), FLAME[1])
        case "leaf":
            tip.polygon(catmull_rom(LEAF), (88, 190, 74))
            turned.line([(x, y + 0.02), (x - 0.01, y - 0.22)], pen.outline_colour((60, 140, 50)), 0.025)
        case "arrow":
            tip.polygon(ARROW, mix(body, (40, 30, 60), 0.45))
        case "puff":
            angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
            radius = 0.19 + 0.03 * np.cos(7 * angle)
            tip.polygon(np.stack([radius * np.cos(angle), radius * np.sin(angle) - 0.08], 1), (255, 250, 244))
        case "star":
            angle = np.linspace(-np.pi / 2, 1.5 * np.pi, 10, endpoint=False)
            radius = np.where(np.arange(10) % 2 == 0, 0.2, 0.09)
            tip.polygon(np.stack([radius * np.cos(angle), radius * np.sin(angle) - 0.1], 1), (255, 222, 74))


def _draw_wing(pen: Pen, creature: Creature, pose: Pose, side: int) -> None:
    if creature.wings == "no":
        return
    colour = COLOURS[creature.wing_colour]
    root = np.array([0.19, 0.14])
    scale = 1.1 if side == 1 else 1.2  # the creature looks to the right, so its right wing is farther away
    wing = pen.transformed(lambda points: rotate(points * scale + root, root, pose.wing) * (side, 1))
    match creature.wings:
        case "bat":
            wing.polygon(BAT_EDGE, colour)
            for start, end in zip(((0.3, -0.44), (0.1, -0.12), (0.1, -0.12)), BAT_TIPS, strict=True):
                wing.line([start, end], pen.outline_colour(colour), 0.02)
        case "feather":
            for i, (length, angle) in enumerate(FEATHERS):
                feather = [(0, 0.06), (length * 0.6, 0.13), (length, 0.0), (length * 0.6, -0.11), (0, -0.06)]
                wing.polygon(rotate(catmull_rom(feather), (0, 0), angle), mix(colour, WHITE, 0.1 * (3 - i)))
        case "butterfly":
            wing.polygon(ellipse(0.36, 0.16, 0.26, 0.19, 0.4), mix(colour, BLACK, 0.08))
            wing.polygon(ellipse(0.4, -0.26, 0.4, 0.27, -0.65), colour)
            wing.fill(ellipse(0.45, -0.32, 0.15, 0.1, -0.65), mix(colour, WHITE, 0.55))


def _draw_body_pattern(pen: Pen, creature: Creature, body) -> None:
    dark = mix(body, (30, 20, 50), 0.38 if creature.body != "black" else -0.35)
    if creature.pattern == "spotted":
        for x, y, r in ((-0.2, 0.2, 0.05), (-0.2, 0.47, 0.045), (0.22, 0.3, 0.04), (0.04, 0.1, 0.045)):
            pen.fill(ellipse(x, y, r, r, count=14), dark)
    elif creature.pattern == "striped":
        for y in (0.2, 0.34, 0.48):
            pen.line([(-0.255, y), (-0.15, y + 0.03)], pen.fill_colour(dark), 0.045)
            pen.line([(0.265, y), (0.22, y + 0.02)], pen.fill_colour(dark), 0.045)
