"""Separate the subject of an RGB image (uint8 [h, w, 3]) from a plain background."""

import numpy as np

PLAIN = 40  # largest RGB distance (of 441) at which two colours count as the same
FLAT = 12  # the same for a drawn or cut-out background, where only compression makes a difference
BAR = 16  # grey levels around that of a black or white bar, for compression
FRAMED = 0.5  # from this share of the frame in one colour on, everything of another colour is the subject


def frame_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return the pixels [n, 3] within 3 % of the shorter side from an edge, those of the corners twice."""
    depth = max(1, round(0.03 * min(pixels.shape[:2])))
    sides = (pixels[:depth], pixels[-depth:], pixels[:, :depth], pixels[:, -depth:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def border_colour(pixels: np.ndarray) -> tuple[int, int, int]:
    """Return the median colour of the frame."""
    return tuple(np.quantile(frame_pixels(pixels), 0.5, axis=0, method="higher").tolist())


def colour_distance(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the RGB distance [...] of pixels [..., 3] to a colour."""
    return np.linalg.norm(pixels - np.float32(colour), axis=-1)


def frame_contact(mask: np.ndarray) -> float | None:
    """Return how much of the background's frame a subject (bool [h, w]) covers, in sides (0 to 4).

    A bust leaves at the bottom and covers about half a side; a cropped subject leaves on two sides and covers more.
    None if a side is covered in full: this is a background with a horizon, not a subject.
    """
    sides = [float(side.mean()) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    return sum(sides) if max(sides) < 0.95 else None


def content_box(grey: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return the box between the background bars of a grey image (uint8 [h, w]), left and right or above and below.

    Bars have the grey level of the first corner. They end in a straight line, and between them the image reaches the
    other two sides, as a subject before a plain background does not.
    """
    different = np.abs(grey - np.int16(grey[0, 0])) > BAR
    for lines in (different, different.T):
        shares = np.count_nonzero(lines, axis=0) / len(lines)
        start, stop = np.flatnonzero(shares >= 0.5)[[0, -1]] + (0, 1) if shares.max() >= 0.5 else (0, 0)
        bars = shares[:start], shares[stop:]
        if all(bar.size and bar.mean() < 0.02 for bar in bars) and lines[[0, -1], start:stop].mean(axis=1).min() >= 0.5:
            return (start, 0, stop, len(lines)) if lines is different else (0, start, len(lines), stop)
    return None
