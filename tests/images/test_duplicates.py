"""Duplicates are connected by pairs of similar hashes."""

import numpy as np
import pytest

from stages.images.quality.duplicates import group_duplicates


@pytest.mark.parametrize("distance", [0, 2, 6, 12])
def test_groups_are_those_of_every_pair(distance: int):
    rng = np.random.default_rng(0)
    values = [int(value) for value in rng.integers(0, 2**63, 20)]
    for value in list(values):
        for flips in (0, 1, 3, 6, 9):
            values.append(value ^ sum(1 << int(bit) for bit in rng.choice(64, flips, replace=False)))
    first = list(range(len(values)))
    for _ in values:  # until nothing changes, at the latest
        for i, value in enumerate(values):
            first[i] = min(first[j] for j, other in enumerate(values) if (value ^ other).bit_count() <= distance)
    assert group_duplicates([f"{value:016x}" for value in values], distance) == first


def test_files_without_hash_are_alone():
    assert group_duplicates(["", "00000000000000ff", None, "00000000000000fe"], 6) == [0, 1, 2, 1]
