"""Group near duplicates by their perceptual hashes, and find the best copy of each group."""

import math

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from stages.images.quality.params import Filter
from stages.images.quality.verdict import reject


def group_duplicates(hashes: list[str], distance: int) -> list[int]:
    """Return for each 64-bit hash (hex, "" for none) the index of the first hash of its group.

    Two hashes that differ in at most `distance` bits are in one group, and so are those that a chain of such pairs
    connects.
    """
    values = np.array(sorted({int(text, 16) for text in hashes if text}), np.uint64)
    groups = DisjointSet(values.tolist())
    for i, value in enumerate(values):
        others = values[i + 1 :]
        for other in others[np.bitwise_count(others ^ value) <= distance].tolist():
            groups.merge(value.item(), other)
    first: dict[int, int] = {}
    return [first.setdefault(groups[int(text, 16)], i) if text else i for i, text in enumerate(hashes)]


def best_copies(rows: list[dict], params: Filter) -> dict[int, dict]:
    """Return for each group of duplicates the usable row with most detail: the largest, sharpest, least compressed."""
    best: dict[int, tuple[float, dict]] = {}
    for row in (row for row in rows if not reject(row, params)[0]):
        detail = math.log2(min(row["width"], row["height"]) * max(row["sharpness"], 0.01))
        detail += 0.02 * (row["jpeg_quality"] or 100)
        best[row["group"]] = max(best.get(row["group"], (-math.inf, row)), (detail, row), key=lambda pair: pair[0])
    return {group: row for group, (_, row) in best.items()}
