"""Counted random numbers: a draw depends on its purpose only."""

import numpy as np
import pytest

from stages.models.philox import STREAMS, generator, normal


def test_known_answers():
    """Philox4x64-10 with NumPy's ziggurat. Other numbers here would change every result."""
    first, later = normal(0, "noise", 0, 0, (4,)), normal(7, "posterior", 1999, 3, (4,))
    assert first.tolist() == pytest.approx([-1.431463, 1.6707169, -0.402724, -1.295642], abs=1e-7)
    assert later.tolist() == pytest.approx([0.3956138, -0.0635009, -0.7392899, -0.6163869], abs=1e-7)
    assert generator(3, "timestep", 5, 1).integers(1000) == 239


def test_bits_equal_those_of_the_published_generator():
    """Random123's kat_vectors for philox4x64-10: counter and key of zeros (NumPy counts up before its first block)."""
    key, counter = np.zeros(2, dtype=np.uint64), np.array([2**64 - 1] * 4, dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=counter).random_raw(4)
    assert [f"{value:016x}" for value in bits] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


def test_order_of_draws_does_not_matter():
    together = [normal(0, "noise", step, sample, (3, 5)) for step in range(3) for sample in range(4)]
    alone = [normal(0, "noise", step, sample, (3, 5)) for step in reversed(range(3)) for sample in reversed(range(4))]
    assert np.array_equal(together, alone[::-1])


def test_every_part_of_key_and_counter_gives_other_numbers():
    draws = [
        normal(seed, stream, step, sample, (8,))
        for seed in (0, 1)
        for stream in STREAMS
        for step in (0, 1)
        for sample in (0, 1)
    ]
    assert len({draw.tobytes() for draw in draws}) == 2 * len(STREAMS) * 2 * 2


def test_long_draws_of_consecutive_samples_do_not_overlap():
    """The lowest word of the counter belongs to one draw: 100,000 values do not run into the next sample's."""
    first, second = (normal(0, "noise", 0, sample, (100_000,)) for sample in (0, 1))
    assert not set(second[:100].tolist()) <= set(first.tolist())
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_values_are_standard_normal():
    drawn = np.concatenate([normal(1, "noise", step, 0, (10_000,)) for step in range(10)])
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs(np.mean(np.abs(drawn) < 1.96) - 0.95) < 0.005
