"""Group near duplicates by their perceptual hashes, and find the best copy of each group."""

import math

import numpy as np

from stages.images.quality.params import Filter
from stages.images.quality.verdict import reject


def group_duplicates(hashes: list[tuple[str, str, str]], distance: int) -> list[int]:
    """Return for each image the index of the first image of its group.

    An image has a hash of 64 bits, and one of 144 bits of itself and of its mirror image (hex, "" for none). Images are
    in one group if their first hashes differ in at most `distance` bits, or any of the finer ones in twice as many, or
    if a chain of such pairs connects them. (Mirrored poses are near in 64 bits, but not in 144.)
    """
    images = [i for i, texts in enumerate(hashes) if texts[0]]
    coarse, fine, mirrored = ([int(hashes[i][kind], 16) for i in images] for kind in range(3))
    groups = np.arange(len(hashes))
    _join(groups, images, coarse, distance)
    _join(groups, images * 2, fine + mirrored, 2 * distance)
    return groups.tolist()


def _join(groups: np.ndarray, images: list[int], hashes: list[int], distance: int) -> None:
    """Join in place the groups [files] of `images` of which hashes differ in at most `distance` bits."""
    files = np.array(images, int)
    words = np.array([[value >> low & (2**64 - 1) for value in hashes] for low in (0, 64, 128)], np.uint64)
    for i in range(len(files)):
        near = np.bitwise_count(words[:, i:] ^ words[:, i, None]).sum(axis=0) <= distance
        near_groups = groups[files[i:][near]]
        if (near_groups != near_groups[0]).any():
            groups[np.isin(groups, near_groups)] = near_groups.min()


def best_copies(rows: list[dict], params: Filter) -> dict[int, dict]:
    """Return the best of each group of duplicates: the usable row that is largest, sharpest, least compressed."""
    best: dict[int, tuple[float, dict]] = {}
    for row in (row for row in rows if not reject(row, params)[0]):
        detail = math.log2(min(row["width"], row["height"]) * max(row["sharpness"], 0.01))
        detail += 0.02 * (row["jpeg_quality"] or 100)
        best[row["group"]] = max(best.get(row["group"], (-math.inf, row)), (detail, row), key=lambda pair: pair[0])
    return {group: row for group, (_, row) in best.items()}
