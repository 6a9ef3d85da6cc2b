"""Duplicates are connected by pairs of similar hashes, of the images or of their mirror images."""

import numpy as np
import pytest

from stages.images.quality.duplicates import group_duplicates

BITS, FINE_BITS = 64, 144
Values = list[tuple[int, int, int]]


def flip(rng: np.random.Generator, value: int, bits: int, count: int) -> int:
    return value ^ sum(1 << int(bit) for bit in rng.choice(bits, count, replace=False))


def near(rng: np.random.Generator, values: Values, most: int) -> Values:
    """Return copies of which each hash differs in up to `most` bits, twice as many in the finer ones."""
    flips = [(int(rng.integers(most + 1)), *rng.integers(2 * most + 1, size=2).tolist()) for _ in values]
    return [
        tuple(flip(rng, *pair) for pair in zip(value, (BITS, FINE_BITS, FINE_BITS), counts, strict=True))
        for value, counts in zip(values, flips, strict=True)
    ]


def random(rng: np.random.Generator, count: int) -> Values:
    return [tuple(int.from_bytes(rng.bytes(size)) for size in (8, 18, 18)) for _ in range(count)]


def chain(rng: np.random.Generator, count: int) -> Values:
    """Each is near the one before it only."""
    values = random(rng, 1)
    for _ in range(count - 1):
        values += near(rng, values[-1:], 4)
    return values


def groups(values: Values, distance: int) -> list[int]:
    return group_duplicates([(f"{a:016x}", f"{b:036x}", f"{c:036x}") for a, b, c in values], distance)


@pytest.mark.parametrize("distance", [0, 1, 4, 6, 12, 40, 64])
def test_groups_are_those_of_every_pair(distance: int):
    rng = np.random.default_rng(distance)
    values = random(rng, 30)
    values += near(rng, values, 2) + near(rng, values, 9) + chain(rng, 20) + values[:3]
    values += [(a >> 40 << 40, b >> 120 << 120, c) for a, b, c in random(rng, 5) for _ in range(4)]  # parts of zeros
    values += [(i, i << 70, i << 140) for i in range(20)]  # equal in most parts
    values += [(a, c, b) for a, b, c in near(rng, random(rng, 5) + values[:9], 1)]  # mirror images
    values = [values[i] for i in rng.permutation(len(values))]
    first = list(range(len(values)))
    pairs = [
        (i, j)
        for i, (coarse, *fine) in enumerate(values)
        for j, (other, *fine_other) in enumerate(values)
        if (coarse ^ other).bit_count() <= distance
        or min((a ^ b).bit_count() for a in fine for b in fine_other) <= 2 * distance
    ]
    changed = True
    while changed:
        before = list(first)
        for i, j in pairs:
            first[i] = min(first[i], first[j])
        changed = first != before
    assert groups(values, distance) == first


@pytest.mark.parametrize("kind", ["alike", "equal", "random", "chain"])
def test_large_groups(kind: str):
    rng = np.random.default_rng(0)
    values = {
        "alike": lambda: near(rng, random(rng, 1) * 3000, 2),
        "equal": lambda: random(rng, 1) * 3000,
        "random": lambda: random(rng, 3000),
        "chain": lambda: chain(rng, 3000),
    }[kind]()
    assert len(set(groups(values, 4))) == (3000 if kind == "random" else 1)


def test_files_without_hash_are_alone():
    hashes = [("", "", ""), ("00000000000000ff", "ff", "ff"), (None, None, None), ("00000000000000fe", "fe", "fe")]
    assert group_duplicates(hashes, 6) == [0, 1, 2, 1]
