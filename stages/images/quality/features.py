"""What a picture looks like in few numbers: how far two pictures are apart in pose and colour, without a network.

Legend: h w pixels of a picture whose longer side is 64.
"""

import numpy as np
from PIL import Image

from stages.images.quality.row import CELLS, COLOURS, ORIENTATIONS

SIDE = 32
GROUND = 0.05  # a colour of more than this part of the frame belongs to what is behind the subject

# The first eight waves of a cosine transform (DCT-II) over SIDE pixels.
_WAVES = 2 * np.cos(np.pi * np.arange(8)[:, None] * (np.arange(SIDE)[None] + 0.5) / SIDE)
_CELL = SIDE // CELLS
_PLACE = ((np.arange(SIDE) // _CELL)[:, None] * CELLS + (np.arange(SIDE) // _CELL)[None]) * ORIENTATIONS


def colours(planes: np.ndarray) -> np.ndarray:
    """k pictures [k, 3, n] uint8 => [k, COLOURS] int64, how many pixels are of each colour of a palette."""
    red, green, blue = (planes[:, channel] & 0xC0 for channel in range(3))  # the two highest bits, for LEVELS
    return np.stack([np.bincount(index, minlength=COLOURS) for index in (red >> 2) | (green >> 4) | (blue >> 6)])


def palettes(whole: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Colours of pictures and of their frames, [n, COLOURS] each => [n, COLOURS] float32, of length 1.

    They are the parts of the colours that are not the frame's, as square roots, so that the product of two palettes is
    their Bhattacharyya coefficient: 1 for equal ones, 0 where no colour is shared. A picture that has no colour of its
    own keeps those of the frame.
    """
    whole = whole.astype(np.float32)
    own = np.where(frame > GROUND * frame.sum(axis=1, keepdims=True), 0, whole)
    enough = own.sum(axis=1, keepdims=True) >= 0.05 * whole.sum(axis=1, keepdims=True)
    kept = np.where(enough, own, whole)
    return np.sqrt(kept / kept.sum(axis=1, keepdims=True))


def look(image: Image.Image, mask: np.ndarray) -> np.ndarray:
    """RGB and its subject's mask [h, w] => [SIDE, SIDE, 3] uint8: the subject's bounding box."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box=_box(mask, image.size), reducing_gap=2.0))


def describe(looks: np.ndarray) -> np.ndarray:
    """[n, SIDE, SIDE, 3] => [n, WIDTH] float32 of length 1: where which edges and colours are.

    Histograms of oriented gradients (Dalal and Triggs 2005) over 4 x 4 cells, beside the cells' mean colours; each half
    has the same weight.
    """
    count, cells = len(looks), CELLS * CELLS * ORIENTATIONS
    red, green, blue = (looks[..., channel].astype(np.float32) for channel in range(3))
    grey = red + green + blue
    down, across = _slope(grey), _slope(grey.transpose(0, 2, 1)).transpose(0, 2, 1)
    index = _orientation(down, across) + _PLACE + cells * np.arange(count)[:, None, None]
    strength = np.sqrt(down * down + across * across)
    edges = np.bincount(index.reshape(-1), strength.reshape(-1), count * cells).reshape(count, cells)
    rows = np.add.reduce(looks.reshape(count, CELLS, _CELL, -1), axis=2, dtype=np.uint16)
    sums = np.add.reduce(rows.reshape(count, CELLS * CELLS, _CELL, 3), axis=2, dtype=np.uint16)
    colours = sums.reshape(count, -1) / np.float32(255 * _CELL**2)
    halves = [_unit(np.sqrt(edges)), _unit(colours - colours.mean(axis=1, keepdims=True))]
    return np.concatenate(halves, axis=1).astype(np.float32) / np.sqrt(2)


def _slope(grey: np.ndarray) -> np.ndarray:
    """[n, h, w] => [n, h, w], how much what is below is lighter than what is above, as if the edge went on."""
    slope = np.empty_like(grey)
    np.subtract(grey[:, 2:], grey[:, :-2], out=slope[:, 1:-1])
    np.subtract(grey[:, 1], grey[:, 0], out=slope[:, 0])
    np.subtract(grey[:, -1], grey[:, -2], out=slope[:, -1])
    return slope


def _orientation(down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """A gradient's two parts => which of ORIENTATIONS of half a turn it has: how many of their ends it has passed."""
    steep, along = np.abs(down), np.abs(across)
    passed = np.zeros(down.shape, np.int8)  # in the first quarter of a turn; the second mirrors it
    for end in (np.pi / ORIENTATIONS * k for k in range(1, ORIENTATIONS // 2)):
        passed += steep >= along * np.float32(np.tan(end))
    return np.where((across * down < 0) | (across == 0), ORIENTATIONS - 1 - passed, passed)


def shade(image: Image.Image) -> np.ndarray:
    """RGB => [SIDE, SIDE] uint8, what its perceptual hash is made of."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def hashes(shades: np.ndarray) -> list[str]:
    """[n, SIDE, SIDE] => n perceptual hashes of 64 bits, as hex: what imagehash.phash gives, for many at once."""
    low = (_WAVES @ shades @ _WAVES.T).reshape(len(shades), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


def _box(mask: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A mask => its bounding box in pixels of a picture of `size`; the whole where there is next to nothing in it."""
    rows, columns = mask.any(axis=1).nonzero()[0].tolist(), mask.any(axis=0).nonzero()[0].tolist()
    if len(rows) < 2 or len(columns) < 2:
        return (0, 0, *size)
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    return (columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
