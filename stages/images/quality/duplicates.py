"""Group near duplicates by their perceptual hashes, and find the best copy of each group."""

import math
from itertools import count, pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.images.quality.params import Filter
from stages.images.quality.verdict import reject

BITS, FINE_BITS = 64, 144


def group_duplicates(hashes: list[tuple[str, str, str]], distance: int) -> list[int]:
    """Return for each image the index of the first image of its group.

    An image has a hash of BITS, and one of FINE_BITS of itself and of its mirror image (hex, "" for none). Images are
    in one group if their first hashes differ in at most `distance` bits, or any of the finer ones in twice as many, or
    if a chain of such pairs connects them. (Mirrored poses are near in BITS, but not in FINE_BITS.)
    """
    images = [i for i, texts in enumerate(hashes) if texts[0]]
    coarse, fine, mirrored = ([int(hashes[i][kind], 16) for i in images] for kind in range(3))
    groups = _group(np.arange(len(hashes)), images, coarse, BITS, distance)
    groups = _group(groups, images * 2, fine + mirrored, FINE_BITS, 2 * distance)
    first: dict[int, int] = {}
    return [first.setdefault(group, i) for i, group in enumerate(groups.tolist())]


def _group(groups: np.ndarray, images: list[int], hashes: list[int], bits: int, distance: int) -> np.ndarray:
    """Return the groups [files], joined where hashes of two `images` differ in at most `distance` bits.

    Two such hashes are equal in at least one of `distance` + 1 parts (multi-index hashing; Norouzi, Punjani and Fleet
    2012): only hashes that are equal in a part are compared, and only until they are in one group.
    """
    files = np.array(images, int)
    words = np.array([[value >> low & (2**64 - 1) for low in (0, 64, 128)] for value in hashes], np.uint64)
    for low, high in pairwise(bits * part // (distance + 1) for part in range(distance + 2)):
        _, parts = np.unique([value >> low & (1 << high - low) - 1 for value in hashes], return_inverse=True)
        order = np.lexsort((groups[files], parts))
        end = np.searchsorted(parts[order], parts[order], "right")
        start = np.flatnonzero(groups[files[order]] != groups[files[order[end - 1]]])  # else all up to `end` are joined
        for shift in count(1):
            start = start[start + shift < end[start]]
            if not start.size:
                break
            pairs = np.stack([order[start], order[start + shift]])
            pairs = pairs[:, np.not_equal(*groups[files[pairs]])]
            pairs = pairs[:, np.bitwise_count(np.bitwise_xor(*words[pairs])).sum(axis=1) <= distance]
            if pairs.size:
                graph = coo_array((np.ones(len(pairs[0])), groups[files[pairs]]), (len(groups), len(groups)))
                groups = connected_components(graph, directed=False)[1][groups]
    return groups


def best_copies(rows: list[dict], params: Filter) -> dict[int, dict]:
    """Return for each group of duplicates the usable row with most detail: the largest, sharpest, least compressed."""
    best: dict[int, tuple[float, dict]] = {}
    for row in (row for row in rows if not reject(row, params)[0]):
        detail = math.log2(min(row["width"], row["height"]) * max(row["sharpness"], 0.01))
        detail += 0.02 * (row["jpeg_quality"] or 100)
        best[row["group"]] = max(best.get(row["group"], (-math.inf, row)), (detail, row), key=lambda pair: pair[0])
    return {group: row for group, (_, row) in best.items()}
