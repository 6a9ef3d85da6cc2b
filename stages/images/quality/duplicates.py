"""Group near duplicates by their perceptual hashes."""

import numpy as np
from scipy.cluster.hierarchy import DisjointSet


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
