"""Image-quality metrics of grey images (uint8 [h, w]): sharpness, JPEG blocking and quality, noise, contrast."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LINES = 32  # about so many evenly spaced rows and columns stand for all, also in a large photograph
REACH = 12  # pixels over which an edge may rise
GRID = 8  # JPEG's block
BLOCK, LOWER_DECILE = 32, 0.775  # means over 32 pixels of white noise: their lower decile over their mean
LUMA_STEPS = 16 + 11 + 10 + 16  # the first four of the luma table at JPEG quality 50 (ITU T.81, table K.1)


def _lines(grey: np.ndarray) -> list[np.ndarray]:
    """Return rows and columns as int16 [lines, length] each."""
    return [lines[:: max(1, len(lines) // LINES)].astype(np.int16) for lines in (grey, grey.T)]


def sharpness(grey: np.ndarray) -> float:
    """Return the part of an edge's rise that lies within one pixel, from 0 (fog) to 1 (every edge is a step).

    Only the strongest edges count, so that a blurred background does not make a sharp subject blurred; of theirs, the
    upper quartile is returned. A step that is blurred by a Gaussian of s pixels has 1 / (s sqrt(2 pi)).
    """
    if min(grey.shape) <= REACH:
        return 0.0
    rise = np.concatenate([np.abs(lines[:, REACH:] - lines[:, :-REACH]).ravel() for lines in _lines(grey)])
    windows = (sliding_window_view(np.abs(np.diff(lines)), REACH, axis=1) for lines in _lines(grey))
    step = np.concatenate([window.max(axis=2).ravel() for window in windows])
    strong = rise >= max(24, 0.5 * rise.max())
    if not strong.any():
        return 0.0
    return float(np.quantile(np.minimum(step, rise)[strong] / rise[strong], 0.75, method="higher"))


def blocking(grey: np.ndarray) -> float:
    """Return by how much steps at the 8-pixel grid of JPEG exceed the others (0: not at all, 1: twice).

    After Wang, Sheikh and Bovik (2002). A step counts by how much it exceeds its neighbours, and by a few levels at
    most, so that drawn outlines, which fall anywhere, do not hide the grid. Blocks without any step are left out.
    """
    if min(grey.shape) < 4 * GRID:
        return 0.0
    excesses = []
    for lines in _lines(grey):
        step = np.abs(np.diff(lines))
        excess = (step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2).clip(0, 16).mean(axis=0)
        blocks = excess[: len(excess) // GRID * GRID].reshape(-1, GRID)
        active = blocks.sum(axis=1)
        blocks = blocks[active >= 0.1 * active.max()]
        phases = np.sort(np.expm1(np.log1p(4 * blocks).mean(axis=0)) / 4)
        rest = phases[:-1].mean()
        excesses.append(float((phases[-1] - rest) / (rest + 0.25)))
    return max(0.0, min(excesses))


def jpeg_quality(table: list[int]) -> int:
    """Return the quality, 1 to 100, at which the IJG encoder writes a luma quantization table [64]."""
    scale = 100 * sum(table[:4]) / LUMA_STEPS
    return round(min(max(5000 / scale if scale > 100 else (200 - scale) / 2, 1), 100))


def noise(grey: np.ndarray) -> tuple[float, float]:
    """Return the standard deviation of the noise in grey levels (Immerkær 1996: a Laplacian that ignores structure).

    The first value is that of the median row, which contains foliage and fur. The second is measured where the image is
    flat (as by Liu, Tanaka and Okutomi 2013): the lower decile over BLOCK pixels of a row, as a share of that of white
    noise.
    """
    if min(grey.shape) < 3:
        return 0.0, 0.0
    above, row, below = (grey[i : len(grey) - 2 + i : max(1, len(grey) // LINES)].astype(np.int16) for i in range(3))
    vertical = above - 2 * row + below
    laplacian = np.abs(vertical[:, :-2] - 2 * vertical[:, 1:-1] + vertical[:, 2:])
    rows = np.quantile(laplacian.mean(axis=1), 0.5, method="higher")
    blocks = np.split(laplacian, range(BLOCK, laplacian.shape[1], BLOCK), axis=1)[: max(1, laplacian.shape[1] // BLOCK)]
    flat = np.quantile([block.mean(axis=1) for block in blocks], 0.1) / LOWER_DECILE
    return tuple(float(level) * math.sqrt(math.pi / 2) / 6 for level in (rows, flat))


def contrast(grey: np.ndarray) -> float:
    """Return the grey levels between the darkest and the lightest 1 % of the pixels."""
    levels = np.concatenate([lines.ravel() for lines in _lines(grey)])
    darkest, lightest = np.quantile(levels, (0.01, 0.99), method="inverted_cdf")
    return float(lightest - darkest)
