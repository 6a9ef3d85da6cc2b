"""Numbers that a picture has: pure functions of its pixels.

Legend: g grey levels 0..255, h w pixels. Where a number is a mean or a rank over lines, LINES of them, evenly spaced,
stand for all: a picture says the same in thirty rows as in two thousand.
"""

import math

import numpy as np
from PIL import Image

SIDE = 256  # longer side at which sharpness is measured, so that size alone makes no picture sharp or blurred
LINES = 32
REACH = 12  # pixels over which an edge may rise
GRID = 8  # JPEG's block
PLAIN = 40  # largest colour distance (of 441) that counts as the same plain colour
FLAT = 12  # the same for a ground that was drawn or cut out, where only compression tells two pixels apart
FRAMED = 0.5  # from this part of a frame of one colour on, what is not of it is the subject
WHOLE_SIDE = 0.95
LEAST_CELLS = 8  # of the 16 of a picture: a mark is all over it where it is in half of them
_CORNERS = np.ones((3, 3), bool)
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


def directions(grey: np.ndarray) -> list[np.ndarray]:
    """g [h, w] uint8 => lines across and lines down, [directions, lines, length] each; of a square, both in one.

    They stay whole numbers, as do their differences below: sixteen and more of those fit into one instruction.
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
    if lines.shape[-1] <= REACH:
        return np.empty(0, np.float32)
    rise = _apart(lines[..., REACH:], lines[..., :-REACH])
    places = np.flatnonzero(rise >= max(24, math.ceil(0.5 * int(rise.max()))))
    # Maxima over windows of 1, 2, 4, 8 and then REACH steps: each doubles the one before.
    steepest = _apart(lines[..., 1:], lines[..., :-1])
    for shift in (1, 2, 4, REACH - 8):
        steepest = np.maximum(steepest[..., shift:], steepest[..., :-shift])
    return np.minimum(steepest.ravel()[places] / rise.ravel()[places].astype(np.float32), 1)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two of uint8 => how far they are apart, as uint8."""
    return np.maximum(one, other) - np.minimum(one, other)


def blocking(lines: list[np.ndarray]) -> float:
    """Directions at the file's own size => by how much steps at the 8-pixel grid exceed the others (0: not at all).

    After Wang, Sheikh and Bovik (2002): a step counts by how much it exceeds its neighbours', and no step by more than
    a few levels, so that drawn outlines, which fall anywhere, do not hide the grid; blocks with nothing in them say
    nothing.
    """
    if min(one.shape[-1] for one in lines) < 4 * GRID:
        return 0.0
    return max(0.0, min(_grid(_excess(one)) for one in lines))


def _excess(lines: np.ndarray) -> np.ndarray:
    """g [directions, lines, length] => [directions, blocks, GRID], how much a step exceeds its neighbours there."""
    step = _apart(lines[..., 1:], lines[..., :-1]).astype(np.int16)
    twice = 2 * step[..., 1:-1]
    twice -= step[..., :-2]
    twice -= step[..., 2:]
    np.minimum(np.maximum(twice, 0, out=twice), 32, out=twice)
    sums = np.add.reduce(twice, axis=1, dtype=np.int16).astype(np.float32)  # of less than 2 * LINES lines
    sums = sums[:, : sums.shape[1] // GRID * GRID].reshape(len(sums), -1, GRID)
    return sums / np.float32(2 * twice.shape[1])


def _grid(blocks: np.ndarray) -> float:
    """[directions, blocks, GRID] => by how much one phase exceeds the others, in the direction where it does less."""
    active = blocks.sum(axis=2)
    counted = active >= 0.1 * active.max(axis=1, keepdims=True)
    logarithms = np.log1p(4 * blocks) * counted[..., None]
    phases = np.expm1(logarithms.sum(axis=1) / counted.sum(axis=1, dtype=np.float32)[:, None]) / 4
    top = phases.max(axis=1).astype(float)
    rest = (phases.sum(axis=1) - top) / (GRID - 1)
    return float(((top - rest) / (rest + 0.25)).min())


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
    every = max(1, len(grey) // LINES)
    above, row, below = (grey[i : len(grey) - 2 + i : every].astype(np.int16) for i in range(3))
    down = above + below
    down -= 2 * row
    both = down[:, :-2] + down[:, 2:]
    both -= 2 * down[:, 1:-1]
    rows = np.sort(np.add.reduce(np.abs(both, out=both), axis=1, dtype=np.int32)).astype(np.float32)
    return float(rows[rows.size // 2] / both.shape[1]) * math.sqrt(math.pi / 2) / 6


def contrast(lines: list[np.ndarray]) -> float:
    """Directions => grey levels between the darkest and the lightest 1 % of their pixels."""
    levels = sum(np.bincount(one.ravel(), minlength=256) for one in lines).cumsum()
    darkest, lightest = np.searchsorted(levels, (0.01 * levels[-1], 0.99 * levels[-1]))
    return float(lightest - darkest)


def border(pixels: np.ndarray) -> tuple[tuple[int, int, int], float, float]:
    """[h, w, 3] => the frame's own colour (median), and the parts of the frame that have it: about, and exactly."""
    depth = max(1, round(0.03 * min(pixels.shape[:2])))
    frame = ring(pixels, depth)
    colour = np.partition(np.ascontiguousarray(frame.T), len(frame) // 2)[:, len(frame) // 2].astype(np.int32)
    apart = _squared(frame, colour)
    red, green, blue = (int(c) for c in colour)
    plain, flat = (np.count_nonzero(apart <= most**2) / len(frame) for most in (PLAIN, FLAT))
    return (red, green, blue), plain, flat


def ring(pixels: np.ndarray, depth: int) -> np.ndarray:
    """[h, w, ...] => [n, ...], the pixels that are at most `depth` from an edge (those of corners twice)."""
    sides = (pixels[:depth], pixels[-depth:], pixels[:, :depth], pixels[:, -depth:])
    return np.concatenate([side.reshape(-1, *pixels.shape[2:]) for side in sides])


def subject(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """[h, w, 3] and the border colour => [h, w] bool: what is not that colour."""
    return _squared(pixels, np.array(colour, np.int32)) > PLAIN**2


def _squared(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """[..., n, 3] => [..., n], the squared distances to a colour."""
    rows = pixels.reshape(*pixels.shape[:-2], -1)  # long ones: a loop over three channels would cost most of the time
    apart = _apart(rows, np.tile(colour.astype(np.uint8), pixels.shape[-2])).astype(np.int32)
    apart *= apart
    return apart[..., ::3] + apart[..., 1::3] + apart[..., 2::3]


def touching(mask: np.ndarray) -> float | None:
    """Subject [h, w] => how much of the frame's sides it covers, in sides (0..4); None where it covers one whole.

    What covers a whole side is ground with a horizon, of which a subject cannot be told. A bust, which leaves by the
    bottom alone, has about a half; what was cut out of a larger picture leaves by two sides and has more.
    """
    sides = [np.count_nonzero(side) / side.size for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    return sum(sides) if max(sides) < WHOLE_SIDE else None


def pieces(mask: np.ndarray) -> int:
    """Subject [h, w] => of how many pieces it is."""
    from scipy import ndimage  # a quarter of a second to import

    return ndimage.label(mask, _CORNERS)[1]


def marks(pixels: np.ndarray, mask: np.ndarray) -> int:
    """[h, w, 3] with a longer side of 128 and its subject => how many shapes of a letter's size and one colour it has.

    Only what is strewn over most of the picture counts, as a shop's name is that stands all over its pictures.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, _CORNERS)
    if count < LEAST_CELLS:
        return 0
    boxes = ndimage.find_objects(labels)
    tall = np.array([box[0].stop - box[0].start for box in boxes])
    wide = np.array([box[1].stop - box[1].start for box in boxes])
    letters = np.flatnonzero((tall >= 4) & (tall <= 24) & (wide >= 2) & (wide <= 40)) + 1
    if letters.size < LEAST_CELLS:
        return 0
    colours = np.stack([ndimage.mean(pixels[..., channel], labels, letters) for channel in range(3)], axis=1)
    alike = ((colours - np.median(colours, axis=0)) ** 2).sum(axis=1) <= PLAIN**2
    middles = [
        [(side.start + side.stop) * 2 // size for side, size in zip(boxes[i - 1], mask.shape, strict=True)]
        for i in letters[alike]
    ]
    return int(alike.sum()) if len({tuple(middle) for middle in middles}) >= LEAST_CELLS else 0
