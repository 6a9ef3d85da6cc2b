"""What a picture looks like in few numbers: how far two pictures are apart in pose and colour, without a network."""

import numpy as np
from PIL import Image

CELLS, ORIENTATIONS, SIDE = 4, 6, 32
WIDTH = CELLS * CELLS * (ORIENTATIONS + 3)


def describe(image: Image.Image, mask: np.ndarray) -> np.ndarray:
    """RGB and its subject's mask [h, w] => [WIDTH] float32 of length 1: where which edges and colours are.

    Histograms of oriented gradients (Dalal and Triggs 2005) over 4 x 4 cells of the subject's bounding box, beside the
    cells' mean colours; each half has the same weight.
    """
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX, box=_box(mask, image.size), reducing_gap=2.0)
    pixels = np.asarray(small, np.float32) / 255
    grey = pixels.mean(axis=2)
    down, across = np.gradient(grey)
    strength = np.hypot(down, across)
    angle = (np.arctan2(down, across) % np.pi) * (ORIENTATIONS / np.pi)
    cell = SIDE // CELLS
    place = (np.arange(SIDE) // cell)[:, None] * CELLS + (np.arange(SIDE) // cell)[None]
    index = place * ORIENTATIONS + np.minimum(angle.astype(np.int64), ORIENTATIONS - 1)
    edges = np.bincount(index.ravel(), strength.ravel(), CELLS * CELLS * ORIENTATIONS)
    colours = pixels.reshape(CELLS, cell, CELLS, cell, 3).mean(axis=(1, 3)).ravel()
    return np.concatenate([_unit(np.sqrt(edges)), _unit(colours - colours.mean())]).astype(np.float32) / np.sqrt(2)


def _box(mask: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A mask => its bounding box in pixels of a picture of `size`; the whole where there is next to nothing in it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size < 2 or columns.size < 2:
        return (0, 0, *size)
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    return (columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.linalg.norm(values)), 1e-6)
