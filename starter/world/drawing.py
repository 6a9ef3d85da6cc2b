"""Points => antialiased shapes: a pen with a transform and a style, on a canvas drawn larger than shown."""

import numpy as np
from PIL import Image, ImageDraw

STYLES = ("cartoon", "pastel", "neon", "sketch")
INK = (38, 30, 46)
PAPER = (247, 241, 228)
DARK = (16, 12, 36)


def mix(colour, other, amount: float) -> tuple[int, int, int]:
    """=> `colour` moved by `amount` (0..1) towards `other`, 8 bit."""
    return tuple(round(a + (b - a) * amount) for a, b in zip(colour, other, strict=True))


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, *, count: int = 28) -> np.ndarray:
    """=> count x 2 points of an ellipse turned by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    px, py = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)], 1)


def catmull_rom(points, closed: bool = True, steps: int = 6) -> np.ndarray:
    """n x 2 => (n * steps) x 2: a Catmull-Rom curve through the points."""
    p = np.asarray(points, float)
    if closed:
        before, after, later = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        ends = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        before, p, after, later = ends[:-3], ends[1:-2], ends[2:-1], ends[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None] for q in (before, p, after, later))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, np.asarray(points, float)[-1:]])


def rotate(points, about, angle: float) -> np.ndarray:
    """=> the points turned by `angle` radians about a point."""
    p, centre = np.asarray(points, float), np.asarray(about, float)
    c, s = np.cos(angle), np.sin(angle)
    return (p - centre) @ np.array([[c, s], [-s, c]]) + centre


class Pen:
    """Draws in the creature's own units (a body is about one high, y down) with the outline of its style."""

    def __init__(self, image: Image.Image, style: str, centre, unit: float, tilt: float = 0.0, *, mirror: bool = False):
        self.draw, self.style, self.centre, self.unit = ImageDraw.Draw(image), style, np.asarray(centre, float), unit
        self.tilt, self.mirror = tilt, mirror
        self.outline_width = max(
            1, round(unit * {"cartoon": 0.042, "pastel": 0.028, "neon": 0.04, "sketch": 0.022}[style])
        )

    def to_pixels(self, points) -> list[tuple[float, float]]:
        """=> canvas points, in px."""
        p = rotate(points, (0.0, 0.0), self.tilt)
        if self.mirror:
            p = p * (-1, 1)
        return [tuple(q) for q in (p * self.unit + self.centre).tolist()]

    def fill_colour(self, colour) -> tuple[int, int, int]:
        """=> the colour as the style paints it."""
        if self.style == "pastel":
            return mix(colour, (255, 252, 250), 0.36)
        if self.style == "sketch":
            return mix(colour, PAPER, 0.4)
        if self.style == "neon":
            return mix(colour, DARK, 0.62)
        return tuple(colour)

    def outline_colour(self, colour) -> tuple[int, int, int]:
        """=> the colour of the outline around a shape of that colour."""
        if self.style == "pastel":
            return mix(self.fill_colour(colour), (120, 90, 130), 0.22)
        if self.style == "neon":
            return mix(colour, (255, 255, 255), 0.22)
        return (84, 76, 84) if self.style == "sketch" else INK

    def line(self, points, colour, width: float) -> None:
        """A stroke, `width` in units, round at its ends."""
        where, px = self.to_pixels(points), max(1, round(width * self.unit))
        self.draw.line(where, colour, px, joint="curve")
        for x, y in (where[0], where[-1]):
            self.draw.ellipse((x - px / 2, y - px / 2, x + px / 2, y + px / 2), colour)

    def polygon(self, points, colour, outline: bool = True) -> None:
        """A filled shape, with the outline of the style around it."""
        where = self.to_pixels(points)
        self.draw.polygon(where, self.fill_colour(colour))
        if not outline:
            return
        ring = [*where, where[0], where[1]]
        self.draw.line(ring, self.outline_colour(colour), self.outline_width, joint="curve")
        if self.style == "sketch":
            shift = self.unit * 0.022
            self.draw.line([(x + shift, y - shift) for x, y in ring], self.outline_colour(colour), 1)

    def stroke(self, points, colour, width: float) -> None:
        """A limb: a thick stroke with the outline of the style on both sides."""
        self.line(points, self.outline_colour(colour), width + 2 * self.outline_width / self.unit)
        self.line(points, self.fill_colour(colour), width)
