"""Describe an image by its colours, edges and layout, without a network."""

import numpy as np
from PIL import Image
from scipy import ndimage

from stages.images.quality.background import frame_pixels

SIDE = 32
CELLS, ORIENTATIONS = 4, 6  # cells along a side; directions of edges in half a turn
WIDTH = CELLS * CELLS * (ORIENTATIONS + 3)
COLOURS = 4**3  # four levels of each channel


def palette(pixels: np.ndarray) -> np.ndarray:
    """Return the square roots of the colour shares of an image's subject, [COLOURS] of length 1.

    The product of two palettes is their Bhattacharyya coefficient: 1 for equal shares, 0 without a common colour. The
    colours of the frame are left out, unless hardly anything else is there.
    """
    parts = (pixels.reshape(-1, 3), frame_pixels(pixels))
    image, frame = (np.bincount((part >> 6) @ (16, 4, 1), minlength=COLOURS) for part in parts)
    subject = np.where(frame > 0.05 * frame.sum(), 0, image)
    if subject.sum() < 0.05 * image.sum():
        subject = image
    return np.sqrt(subject / subject.sum())


def descriptor(image: Image.Image, mask: np.ndarray) -> np.ndarray:
    """Describe what is where in the bounding box of a subject [h, w] of an RGB image: [WIDTH] of length 1.

    Histograms of oriented gradients (Dalal and Triggs 2005) over 4 x 4 cells, and the mean colours of the cells; both
    have the same weight.
    """
    box = Image.fromarray(mask).getbbox()
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box), np.float64)
    down, across = (ndimage.correlate1d(pixels.sum(axis=2), [-1, 0, 1], axis, mode="nearest") for axis in (0, 1))
    orientation = (np.arctan2(down, across) % np.pi * ORIENTATIONS / np.pi).astype(int).clip(0, ORIENTATIONS - 1)
    edges = np.sqrt(_cells(np.hypot(down, across)[..., None] * np.eye(ORIENTATIONS)[orientation]))
    colours = _cells(pixels - pixels.mean())
    return np.concatenate([part / max(np.linalg.norm(part), 1e-6) for part in (edges, colours)]) / np.sqrt(2)


def _cells(values: np.ndarray) -> np.ndarray:
    """Sum values [SIDE, SIDE, n] over each cell: [CELLS * CELLS * n]."""
    return values.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS, -1).sum(axis=(1, 3)).ravel()
