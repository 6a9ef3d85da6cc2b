"""Of how many pieces a subject is, and how many of them are letters of a mark.

Legend: h w pixels, R runs of neighbouring subject pixels in a row, in reading order, P pieces, in the order of their
first runs. Pieces are of runs that touch, also by a corner. SciPy has this as ndimage.label, but to import it takes as
long as to measure three hundred pictures.
"""

import numpy as np

from stages.images.quality.background import PLAIN

LEAST_CELLS = 8  # of the 16 of a picture: a mark is all over it where it is in half of them


def runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[h, w] bool => [R] where runs begin and [R] where they have ended, in a frame [h, w + 1] read as one line."""
    line = np.zeros(mask.shape[0] * (mask.shape[1] + 1) + 1, bool)
    line[1:].reshape(mask.shape[0], -1)[:, :-1] = mask  # a column of ground between two rows, and one pixel before all
    edges = (line[1:] != line[:-1]).nonzero()[0]
    return edges[::2], edges[1::2]


def strewn(mask: np.ndarray, most: int) -> bool:
    """[h, w] bool => whether it is of more than `most` pieces."""
    begins, ends = runs(mask)
    first, last = _above(begins, ends, mask.shape[1] + 1)
    if np.count_nonzero(first == last) <= most:  # each piece has a run with nothing above it, some have more
        return False
    return int(_pieces(first, last)[1]) > most


def watermark_shapes(planes: np.ndarray, mask: np.ndarray) -> int:
    """[3, h, w] with a longer side of 128 and its subject => how many shapes of a letter's size and one colour it has.

    Only what is strewn over most of the picture counts, as a shop's name is that stands all over its pictures.
    """
    begins, ends = runs(mask)
    width = mask.shape[1] + 1
    piece, count = _pieces(*_above(begins, ends, width))
    if count < LEAST_CELLS:
        return 0
    boxes = _boxes(begins, ends, width, piece, count)
    top, bottom, left, right = boxes
    tall, wide = bottom - top, right - left
    letters = (tall >= 4) & (tall <= 24) & (wide >= 2) & (wide <= 40)
    if np.count_nonzero(letters) < LEAST_CELLS:
        return 0
    colours = _colours(planes, begins, ends, piece, count)[letters]
    alike = ((colours - np.median(colours, axis=0)) ** 2).sum(axis=1) <= PLAIN**2
    down, across = (top + bottom) * 2 // mask.shape[0], (left + right) * 2 // mask.shape[1]
    cells = np.unique((4 * down + across)[letters][alike])
    return np.count_nonzero(alike) if cells.size >= LEAST_CELLS else 0


def _above(begins: np.ndarray, ends: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs => for each [R] the first, and the one after the last, of those that it touches in the row above."""
    return np.searchsorted(ends, begins - width), np.searchsorted(begins, ends - width, side="right")


def _pieces(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, int]:
    """Of each run those that it touches above => [R] its piece, and how many pieces there are.

    Each run hangs from the first that it touches; following that up to the top, twice as far each time, makes trees.
    Only where a run touches several, two trees may be one piece.
    """
    root = np.where(first < last, first, np.arange(len(first)))
    while (further := root[root]).tobytes() != root.tobytes():
        root = further
    joined = {}
    for run in (last - first > 1).nonzero()[0].tolist():
        ends = {_end(joined, one) for one in root[first[run] : last[run]].tolist()}
        joined |= dict.fromkeys(ends - {low := min(ends)}, low)
    tops = (first == last).nonzero()[0]
    begin = np.array([_end(joined, top) for top in tops.tolist()], np.intp)
    known, number = np.unique(begin, return_inverse=True)
    piece = np.zeros(len(first), np.intp)
    piece[tops] = number
    return piece[root], len(known)


def _end(joined: dict[int, int], one: int) -> int:
    while one in joined:
        one = joined[one]
    return one


def _boxes(begins: np.ndarray, ends: np.ndarray, width: int, piece: np.ndarray, count: int) -> np.ndarray:
    """Runs and their pieces => [4, P]: top, bottom, left and right, of which bottom and right are outside."""
    row = begins // width
    boxes = np.full((4, count), -(width**2), np.intp)
    for edge, values in zip(boxes, (-row, row + 1, -(begins - row * width), ends - row * width), strict=True):
        np.maximum.at(edge, piece, values)
    boxes[::2] *= -1
    return boxes


def _colours(planes: np.ndarray, begins: np.ndarray, ends: np.ndarray, piece: np.ndarray, count: int) -> np.ndarray:
    """[3, h, w] and its runs with their pieces => [P, 3], the pieces' mean colours."""
    lined = np.zeros((3, planes.shape[1], planes.shape[2] + 1), np.int64)
    lined[..., 1:] = planes
    until = lined.reshape(3, -1).cumsum(axis=1)  # of a run: what is before where it ends, without what is before it
    sums = [np.bincount(piece, line[ends] - line[begins], count) for line in until]
    return np.stack(sums, axis=1) / np.bincount(piece, ends - begins, count)[:, None]
