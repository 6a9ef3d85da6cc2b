"""Which pictures are the same picture."""

from collections import defaultdict
from itertools import pairwise

import numpy as np

BITS = 64


def group_duplicates(hashes: list[str], distance: int) -> list[int]:
    """64-bit hashes as hex ("" where there is none) => for each the index of the first of its group; alone: its own.

    Two hashes that differ in at most `distance` bits are in one group, and so are those that a chain of such pairs
    connects. Bits are cut into distance + 1 bands: two near hashes agree in at least one (pigeonhole), so only those in
    the same bucket of some band are compared.
    """
    first = list(range(len(hashes)))
    known = [i for i, text in enumerate(hashes) if text]
    values = np.array([int(hashes[i], 16) for i in known], np.uint64)
    for members in _buckets(values, distance):
        rest = members
        while rest.size > 1:
            one, rest = rest[0], rest[1:]
            near = np.bitwise_count(values[rest] ^ values[one]) <= distance
            for other in rest[near]:
                _join(first, known[one], known[int(other)])
    return [_root(first, i) for i in range(len(hashes))]


def _buckets(values: np.ndarray, distance: int) -> list[np.ndarray]:
    """Values => groups of indices that agree in one band of bits (a pair may be in several)."""
    bands = min(distance + 1, BITS)
    edges = np.linspace(0, BITS, bands + 1).astype(int)
    found = []
    for low, high in pairwise(edges):
        part = (values >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        buckets = defaultdict(list)
        for i, value in enumerate(part.tolist()):
            buckets[value].append(i)
        found += [np.array(members) for members in buckets.values() if len(members) > 1]
    return found


def _root(first: list[int], i: int) -> int:
    while first[i] != i:
        first[i] = first[first[i]]
        i = first[i]
    return i


def _join(first: list[int], a: int, b: int) -> None:
    a, b = sorted((_root(first, a), _root(first, b)))
    first[b] = a
