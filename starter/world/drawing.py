"""Antialiased shapes: geometry helpers and a pen with a transform and a style, for a canvas drawn larger than shown.

Points are n x 2 arrays of x and y, y down; colours are 8-bit RGB.
"""

import copy
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

STYLES = ("cartoon", "pastel", "neon", "sketch")
INK = (38, 30, 46)
PAPER = (247, 241, 228)
DARK = (16, 12, 36)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
OUTLINE_WIDTHS = {"cartoon": 0.042, "pastel": 0.028, "neon": 0.04, "sketch": 0.022}  # in units


def mix(colour, other, amount: float) -> tuple[int, int, int]:
    """Interpolate from `colour` to `other`; `amount` is in 0..1, and negative values extrapolate."""
    return tuple(round(a + (b - a) * amount) for a, b in zip(colour, other, strict=True))


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, *, count: int = 28) -> np.ndarray:
    """Return `count` points of an ellipse rotated by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    px, py = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)], 1)


def catmull_rom(points, closed: bool = True, steps: int = 6) -> np.ndarray:
    """Interpolate a Catmull-Rom curve through the points, with `steps` points per segment."""
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


def rotate(points, centre, angle: float) -> np.ndarray:
    """Rotate the points by `angle` radians about `centre`."""
    p, centre = np.asarray(points, float), np.asarray(centre, float)
    c, s = np.cos(angle), np.sin(angle)
    return (p - centre) @ np.array([[c, s], [-s, c]]) + centre


def fill_colour(colour, style: str) -> tuple[int, int, int]:
    """Return the colour of a filled shape in a style."""
    match style:
        case "pastel":
            return mix(colour, (255, 252, 250), 0.36)
        case "sketch":
            return mix(colour, PAPER, 0.4)
        case "neon":
            return mix(colour, DARK, 0.62)
    return tuple(colour)


class Pen:
    """Draw in units of a figure (a body is about one unit high), with the colours and outlines of a style."""

    def __init__(self, image: Image.Image, style: str, centre, unit: float, tilt: float = 0.0, *, mirror: bool = False):
        self.draw, self.style, self.centre, self.unit = ImageDraw.Draw(image), style, np.asarray(centre, float), unit
        self.tilt, self.mirror = tilt, mirror
        self.outline_width = max(1, round(unit * OUTLINE_WIDTHS[style]))
        self.transforms: tuple[Callable[[np.ndarray], np.ndarray], ...] = ()

    def transformed(self, transform: Callable[[np.ndarray], np.ndarray]) -> "Pen":
        """Return a pen that applies `transform` to its points before this pen's own transforms."""
        pen = copy.copy(self)
        pen.transforms = (transform, *self.transforms)
        return pen

    def to_pixels(self, points) -> list[tuple[float, float]]:
        """Convert points to canvas pixels."""
        p = np.asarray(points, float)
        for transform in self.transforms:
            p = transform(p)
        p = rotate(p, (0.0, 0.0), self.tilt)
        if self.mirror:
            p = p * (-1, 1)
        return [tuple(q) for q in (p * self.unit + self.centre).tolist()]

    def fill_colour(self, colour) -> tuple[int, int, int]:
        """Return the colour of a filled shape in the pen's style."""
        return fill_colour(colour, self.style)

    def outline_colour(self, colour) -> tuple[int, int, int]:
        """Return the colour of the outline around a shape of this colour, in the pen's style."""
        match self.style:
            case "pastel":
                return mix(self.fill_colour(colour), (120, 90, 130), 0.22)
            case "neon":
                return mix(colour, WHITE, 0.22)
            case "sketch":
                return 84, 76, 84
        return INK

    def line(self, points, colour, width: float) -> None:
        """Draw a line of exactly this colour, `width` units wide, with round ends."""
        pixels, px = self.to_pixels(points), max(1, round(width * self.unit))
        self.draw.line(pixels, colour, px, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            self.draw.ellipse((x - px / 2, y - px / 2, x + px / 2, y + px / 2), colour)

    def fill(self, points, colour, *, styled: bool = True) -> None:
        """Fill a polygon without an outline, in the style's colour or in exactly this colour."""
        self.draw.polygon(self.to_pixels(points), self.fill_colour(colour) if styled else colour)

    def polygon(self, points, colour) -> None:
        """Fill a polygon and draw its outline."""
        pixels = self.to_pixels(points)
        self.draw.polygon(pixels, self.fill_colour(colour))
        ring = [*pixels, pixels[0], pixels[1]]
        self.draw.line(ring, self.outline_colour(colour), self.outline_width, joint="curve")
        if self.style == "sketch":
            shift = self.unit * 0.022
            self.draw.line([(x + shift, y - shift) for x, y in ring], self.outline_colour(colour), 1)

    def stroke(self, points, colour, width: float) -> None:
        """Draw a thick line, such as a limb, with an outline on both sides."""
        self.line(points, self.outline_colour(colour), width + 2 * self.outline_width / self.unit)
        self.line(points, self.fill_colour(colour), width)
