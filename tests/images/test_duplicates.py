"""Groups by buckets are the groups that comparing every pair gives."""

import imagehash
import numpy as np

from stages.images.quality.duplicates import group_duplicates
from stages.images.quality.features import hashes, shade
from tests.images import corpus


def slow(values: list[int], distance: int) -> list[int]:
    first = list(range(len(values)))
    changed = True
    while changed:
        changed = False
        for i in range(len(values)):
            for j in range(len(values)):
                if (values[i] ^ values[j]).bit_count() <= distance and first[i] != first[j]:
                    first[i] = first[j] = min(first[i], first[j])
                    changed = True
    return first


def test_against_every_pair():
    random = np.random.default_rng(0)
    values = [int(v) for v in random.integers(0, 2**63, 20)]
    for value in list(values):
        for flips in (1, 3, 6, 9):
            bits = random.choice(64, flips, replace=False)
            values.append(value ^ sum(1 << int(bit) for bit in bits))
    hashes = [f"{value:016x}" for value in values]
    for distance in (0, 2, 6, 12):
        assert group_duplicates(hashes, distance) == slow(values, distance)


def test_files_without_a_picture_are_alone():
    assert group_duplicates(["", "00000000000000ff", "", "00000000000000fe"], 6) == [0, 1, 2, 1]


def test_hashes_for_many_are_those_of_the_library():
    images = [corpus.scene(64, seed) for seed in range(12)]
    assert hashes(np.stack([shade(image) for image in images])) == [str(imagehash.phash(image)) for image in images]
