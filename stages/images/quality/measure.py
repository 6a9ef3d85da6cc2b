"""Numbers that a picture has: pure functions of its pixels.

Legend: g grey levels 0..255, h w pixels; `scale` is a picture whose longer side is SIDE.
"""

import numpy as np
from PIL import Image

SIDE = 256  # longer side at which sharpness is measured, so that size alone makes no picture sharp or blurred
REACH = 12  # pixels over which an edge may rise
MOST_EDGES = 4000  # places looked at: more do not change the quartile
GRID = 8  # JPEG's block
PLAIN = 40  # largest colour distance (of 441) that counts as the same plain colour


def shrink(image: Image.Image, side: int) -> Image.Image:
    """A picture => the same with its longer side at most `side`, never enlarged."""
    factor = side / max(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def sharpness(grey: np.ndarray) -> float:
    """g [h, w] at SIDE => the part of an edge's rise that lies within one pixel, 0 (fog) to 1 (every edge a step).

    Only the strongest rises count (a blurred background does not make a sharp subject blurred), and what is taken is
    the upper quartile of theirs: the sharpest thing in the picture. A step blurred by a Gaussian of s pixels has
    1 / (s sqrt(2 pi)).
    """
    parts = [_edge_parts(grey), _edge_parts(grey.T)]
    both = np.concatenate(parts)
    return float(np.percentile(both, 75)) if both.size else 0.0


def _edge_parts(grey: np.ndarray) -> np.ndarray:
    """g [h, w] => for each place with a strong rise across, the steepest step's part of it."""
    if grey.shape[1] <= REACH:
        return np.empty(0, np.float32)
    rise = np.abs(grey[:, REACH:] - grey[:, :-REACH])
    rows, columns = np.nonzero(rise >= max(24.0, 0.5 * float(rise.max())))
    if rows.size > MOST_EDGES:
        every = -(-rows.size // MOST_EDGES)
        rows, columns = rows[::every], columns[::every]
    step = np.abs(np.diff(grey, axis=1))
    steepest = step[rows, columns]
    for offset in range(1, REACH):
        np.maximum(steepest, step[rows, columns + offset], out=steepest)
    return np.minimum(steepest / rise[rows, columns], 1.0)


def blocking(grey: np.ndarray) -> float:
    """g [h, w] at the file's own size => by how much steps at the 8-pixel grid exceed the others (0: not at all).

    After Wang, Sheikh and Bovik (2002): a step counts by how much it exceeds its neighbours', and no step by more than
    a few levels, so that drawn outlines, which fall anywhere, do not hide the grid.
    """
    return max(0.0, min(_grid(grey), _grid(grey.T)))


def _grid(grey: np.ndarray) -> float:
    if grey.shape[1] < 4 * GRID:
        return 0.0
    step = np.abs(np.diff(grey, axis=1))
    excess = np.clip(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2, 0, 16).mean(axis=0)
    whole = excess[: excess.size // GRID * GRID].reshape(-1, GRID)
    phases = np.median(whole, axis=0) if len(whole) >= 16 else whole.mean(axis=0)
    rest = np.sort(phases)[:-1].mean()
    return float((phases.max() - rest) / (rest + 0.25))


def noise(grey: np.ndarray) -> float:
    """g [h, w] => standard deviation of the noise in grey levels (Immerkær 1996: a Laplacian that ignores structure).

    The median over rows stands for the mean over pixels, so that a few textured rows do not count as noise.
    """
    if min(grey.shape) < 3:
        return 0.0
    across = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    return float(np.median(np.abs(both).mean(axis=1)) * np.sqrt(np.pi / 2) / 6)


def contrast(grey: Image.Image) -> float:
    """L => grey levels between the darkest and the lightest 1 % of pixels."""
    levels = np.cumsum(grey.histogram())
    return float(np.searchsorted(levels, 0.99 * levels[-1]) - np.searchsorted(levels, 0.01 * levels[-1]))


def border(pixels: np.ndarray) -> tuple[tuple[int, int, int], float]:
    """[h, w, 3] => the frame's own colour (median), and the part of the frame that has it (0..1)."""
    depth = max(1, round(0.03 * min(pixels.shape[:2])))
    frame = np.concatenate(
        [
            pixels[:depth].reshape(-1, 3),
            pixels[-depth:].reshape(-1, 3),
            pixels[:, :depth].reshape(-1, 3),
            pixels[:, -depth:].reshape(-1, 3),
        ]
    ).astype(np.int16)
    colour = np.median(frame, axis=0)
    near = ((frame - colour) ** 2).sum(axis=1) <= PLAIN**2
    red, green, blue = (int(c) for c in colour)
    return (red, green, blue), float(near.mean())


def subject(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """[h, w, 3] and the border colour => [h, w] bool: what is not that colour."""
    return ((pixels.astype(np.int32) - np.array(colour, np.int32)) ** 2).sum(axis=2) > PLAIN**2


def touching(mask: np.ndarray) -> float:
    """Subject [h, w] => the largest part of one side of the frame that it covers (0..1): a subject cut off there."""
    return float(max(mask[0].mean(), mask[-1].mean(), mask[:, 0].mean(), mask[:, -1].mean()))
