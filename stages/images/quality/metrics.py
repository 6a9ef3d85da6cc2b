"""Numbers that a picture has: pure functions of its pixels.

Legend: g grey levels 0..255, h w pixels. Where a number is a mean or a rank over lines, LINES of them, evenly spaced,
stand for all: a picture says the same in thirty rows as in two thousand.
"""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIDE = 256  # longer side at which sharpness is measured, so that size alone makes no picture sharp or blurred
LINES = 32
REACH = 12  # pixels over which an edge may rise
GRID = 8  # JPEG's block
STANDARD = (16, 11, 10, 16)  # the first steps of the luma table of JPEG's quality 50 (ITU T.81, table K.1)


def shrink(image: Image.Image, side: int) -> Image.Image:
    """A picture => the same with its longer side at most `side`, never enlarged."""
    factor = side / max(image.size)
    if factor >= 1:
        return image
    if image.width % side == 0 and image.height % side == 0 and image.width == image.height:
        return image.reduce(image.width // side)  # the same means, found faster
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def alike(kinds: list[tuple[int, ...]]) -> Iterator[list[int]]:
    """Sizes or shapes => for each that occurs where it does: what is of one shape can be counted in one go."""
    for kind in dict.fromkeys(kinds):
        yield [i for i, other in enumerate(kinds) if other == kind]


def directions(grey: np.ndarray) -> list[np.ndarray]:
    """g [h, w] uint8 => lines across and lines down, [directions, lines, length] each; of a square, both in one.

    They stay whole numbers, as do their differences below: sixteen and more of those fit into one instruction. And all
    lines are gone through as one, without a stop at their ends; what is found across an end is left out afterwards.
    """
    across, down = (lines[:: max(1, len(lines) // LINES)] for lines in (grey, grey.T))
    if across.shape == down.shape:
        return [np.stack([across, down])]
    return [np.ascontiguousarray(lines)[None] for lines in (across, down)]


def sharpness(lines: list[np.ndarray]) -> float:
    """Directions at SIDE => the part of an edge's rise that lies within one pixel, 0 (fog) to 1 (every edge a step).

    Only the strongest rises count (a blurred background does not make a sharp subject blurred), and what is taken is
    the upper quartile of theirs: the sharpest thing in the picture. A step blurred by a Gaussian of s pixels has
    1 / (s sqrt(2 pi)).
    """
    both = [_edge_parts(one) for one in lines]
    parts = both[0] if len(both) == 1 else np.concatenate(both)
    return float(np.partition(parts, parts.size * 3 // 4)[parts.size * 3 // 4]) if parts.size else 0.0


def _edge_parts(lines: np.ndarray) -> np.ndarray:
    """g [directions, lines, length] => for each place with a strong rise, the steepest step's part of it."""
    length = lines.shape[-1]
    if length <= REACH:
        return np.empty(0, np.float32)
    rise = _apart(lines, REACH)
    rise.reshape(-1, length)[:, -REACH:] = 0
    places = (rise >= max(24, math.ceil(0.5 * int(rise.max())))).nonzero()[0]
    # Maxima over windows of 1, 2, 4, 8 and then REACH steps: each doubles the one before.
    steepest = _apart(lines, 1)
    for shift in (1, 2, 4, REACH - 8):
        steepest = np.maximum(steepest[shift:], steepest[:-shift])
    rise = rise[places]
    return np.minimum(steepest[places], rise) / rise.astype(np.float32)


def _apart(lines: np.ndarray, by: int) -> np.ndarray:
    """uint8 [...] => how far each is apart from the one that follows `by` after, as one line of uint8; 0 at its end."""
    line, apart = lines.reshape(-1), np.zeros(lines.size, np.uint8)
    np.subtract(np.maximum(line[by:], line[:-by]), np.minimum(line[by:], line[:-by]), out=apart[:-by])
    return apart


def blocking(pictures: list[list[np.ndarray]]) -> list[float]:
    """Directions at the files' own sizes => by how much steps at the 8-pixel grid exceed the others (0: not at all).

    After Wang, Sheikh and Bovik (2002): a step counts by how much it exceeds its neighbours', and no step by more than
    a few levels, so that drawn outlines, which fall anywhere, do not hide the grid; blocks with nothing in them say
    nothing.
    """
    told = [i for i, lines in enumerate(pictures) if min(one.shape[-1] for one in lines) >= 4 * GRID]
    excess = [(i, _excess(one)) for i in told for one in pictures[i]]
    found = [math.inf if i in told else 0.0 for i in range(len(pictures))]
    for places in alike([blocks.shape for _, blocks in excess]):
        grids = _grid(np.stack([excess[k][1] for k in places]))
        for k, value in zip(places, grids, strict=True):
            i = excess[k][0]
            found[i] = min(found[i], value)
    return [max(0.0, value) for value in found]


def _excess(lines: np.ndarray) -> np.ndarray:
    """g [directions, lines, length] => [directions, blocks, GRID], how much a step exceeds its neighbours there."""
    step = _apart(lines, 1).astype(np.int16)
    excess = np.zeros(lines.shape, np.int16)
    beside, middle = step[:-2] + step[2:], excess.reshape(-1)[:-2]
    np.subtract(np.maximum(step[1:-1] + step[1:-1], beside), beside, out=middle)
    np.minimum(middle, np.full_like(middle, 32), out=middle)  # with an array, for a scalar is gone through one by one
    sums = np.add.reduce(excess, axis=1)  # of less than 2 * LINES lines: fits
    blocks = (lines.shape[2] - 3) // GRID
    sums = sums[:, : blocks * GRID].reshape(len(sums), blocks, GRID).astype(np.float32)
    return sums / np.float32(2 * lines.shape[1])


def _grid(blocks: np.ndarray) -> list[float]:
    """[n, directions, blocks, GRID] => n times by how much one phase exceeds the others, where it does least."""
    active = np.add.reduce(blocks, axis=3)
    counted = active >= 0.1 * np.maximum.reduce(active, axis=2, keepdims=True)
    logarithms = np.log1p(4 * blocks)
    logarithms *= counted[..., None]
    sums = np.add.reduce(logarithms, axis=2) / np.add.reduce(counted, axis=2, dtype=np.float32)[..., None]
    phases = np.expm1(sums) / 4
    top = np.maximum.reduce(phases, axis=2).astype(float)
    rest = (np.add.reduce(phases, axis=2) - top) / (GRID - 1)
    return np.minimum.reduce((top - rest) / (rest + 0.25), axis=1).tolist()


def jpeg_quality(luma: list[int]) -> int:
    """A JPEG file's luma table (64 steps) => the quality from 1 to 100 at which the IJG's encoder would write it."""
    scale = 100 * sum(luma[: len(STANDARD)]) / sum(STANDARD)
    return round(min(max(5000 / scale if scale > 100 else (200 - scale) / 2, 1), 100))


def noise(grey: np.ndarray) -> float:
    """g [h, w] => standard deviation of the noise in grey levels (Immerkær 1996: a Laplacian that ignores structure).

    The median over rows stands for the mean over pixels, so that a few textured rows do not count as noise.
    """
    if min(grey.shape) < 3:
        return 0.0
    every, width = max(1, len(grey) // LINES), grey.shape[1]
    above, row, below = (grey[i : len(grey) - 2 + i : every].astype(np.int16).reshape(-1) for i in range(3))
    down = above + below
    down -= row
    down -= row
    both = np.zeros(down.size, np.int16)
    middle = both[:-2]
    np.add(down[:-2], down[2:], out=middle)
    middle -= down[1:-1]
    middle -= down[1:-1]
    np.abs(both, out=both)
    rows = np.sort(np.add.reduce(both.reshape(-1, width)[:, :-2], axis=1, dtype=np.int32)).astype(np.float32)
    return float(rows[rows.size // 2] / (width - 2)) * math.sqrt(math.pi / 2) / 6


def contrast(lines: list[np.ndarray]) -> float:
    """Directions => grey levels between the darkest and the lightest 1 % of their pixels."""
    counts = [np.bincount(one.reshape(-1), minlength=256) for one in lines]
    levels = np.add.accumulate(counts[0] if len(counts) == 1 else counts[0] + counts[1])
    darkest, lightest = levels.searchsorted((0.01 * levels[-1], 0.99 * levels[-1]))
    return float(lightest - darkest)
