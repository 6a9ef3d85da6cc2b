"""Metrics with known answers."""

import numpy as np
import pytest

from stages.scoring.metrics import (
    copied,
    diversity,
    gain,
    gap_closed,
    mean_similarity,
    ratio,
    retrieve,
    spread,
    tradeoff,
)

AXES = np.eye(4)


def near(axis: int, count: int, spread: float = 0.1) -> np.ndarray:
    """Return unit vectors near an axis."""
    rows = AXES[axis] + np.random.default_rng(axis).normal(0, spread, (count, 4))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_identical_sets_reach_the_ceiling_and_orthogonal_features_give_zero():
    assert mean_similarity(AXES[:1] @ AXES[:1].T).value == 1.0
    assert mean_similarity(AXES[:2] @ AXES[2:].T).value == 0.0
    real = near(0, 5)
    to_real, floor = real @ real.T, near(1, 5) @ real.T
    assert gap_closed(to_real, floor, to_real).value == pytest.approx(1.0)
    assert gap_closed(floor, floor, to_real).value == 0.0
    assert mean_similarity(np.array([[0.8, 0.4]])).value == pytest.approx(0.6)


def test_gap_closed_is_a_share_of_the_gap_with_an_interval():
    real, floor = np.full((4, 3), 0.8), np.array([[0.5] * 3, [0.3] * 3])
    assert gap_closed(np.full((2, 3), 0.6), floor, real).value == pytest.approx(0.5)
    assert gap_closed(floor - 0.1, floor, real).value == pytest.approx(-0.25)
    assert gap_closed(floor, floor, np.full((4, 3), 0.4)) is None
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, (12, 3))  # of the pairs, equal for both
    word, floor = (value + noise + random.normal(0, 0.02, (12, 3)) for value in (0.7, 0.4))
    found = gap_closed(word, floor, 0.8 + random.normal(0, 0.02, (7, 3)))
    assert found.low < 0.75 < found.high
    assert 0.02 < found.high - found.low < 0.4


def test_gain_compares_pairs():
    noise = np.random.default_rng(0).normal(0, 0.2, (12, 3))
    found = gain(0.5 + noise, 0.4 + noise)
    assert (found.value, found.low) == (pytest.approx(0.1), pytest.approx(0.1))
    assert gain(noise, np.zeros_like(noise)).low < 0


def test_ratio():
    initializer = np.array([0.2, 0.4])
    half = ratio(initializer / 2, initializer)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    assert ratio(initializer, -initializer) is None


def test_tradeoff_is_the_geometric_mean_of_both_ratios():
    floor, real, prompts = np.array([[0.5] * 3, [0.3] * 3]), np.full((4, 3), 0.8), np.array([0.2, 0.6])
    found = tradeoff(np.full((2, 3), 0.6), floor, real, prompts * 0.32, prompts)
    assert found.value == pytest.approx((0.5 * 0.32) ** 0.5) == pytest.approx(0.4)
    assert found.low <= found.value <= found.high
    assert tradeoff(np.full((2, 3), 0.8), floor, real, prompts, prompts).value == pytest.approx(1.0)
    assert tradeoff(floor - 0.1, floor, real, prompts, prompts).value == 0.0, "further from the real images"
    assert tradeoff(np.full((2, 3), 0.6), floor, real, -prompts, prompts).value == 0.0
    assert tradeoff(floor, floor, floor, prompts, prompts) is None, "no gap"
    assert tradeoff(floor, floor, real, prompts, -prompts) is None


def test_gallery_recognizes_the_class_and_nothing_else():
    gallery = np.concatenate([near(axis, 6) for axis in range(4)])
    relevant = np.arange(24) < 6
    first, precision = retrieve(near(0, 50), gallery, relevant)
    assert first.all()
    assert precision.min() > 0.95
    first, precision = retrieve(near(1, 50), gallery, relevant)
    assert not first.any()
    assert precision.max() < 0.4
    everywhere = np.random.default_rng(1).normal(size=(4000, 4))
    first, _ = retrieve(everywhere / np.linalg.norm(everywhere, axis=1, keepdims=True), gallery, relevant)
    assert first.mean() < 0.3  # chance is 0.25
    _, (precision,) = retrieve(AXES[:1], AXES[[1, 0, 2, 0]] + 0.0, np.array([True, False, False, True]))
    assert precision == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_copies_are_flagged_and_likeness_is_not():
    train, holdout = near(0, 6, 0.2), near(0, 6, 0.2)[::-1] * [1, -1, 1, 1]
    copies = train + np.random.default_rng(3).normal(0, 0.005, train.shape)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    for renders, expected in ((copies, True), (near(0, 40, 0.2)[6:], False), (near(1, 6), False), (holdout, False)):
        flags = copied(renders @ train.T, renders @ holdout.T, holdout @ train.T)
        assert flags.mean() >= 0.8 if expected else flags.mean() <= 0.1


def test_diversity_is_within_a_group():
    assert diversity(AXES[[0, 0, 1, 1]], np.array([0, 0, 1, 1])).value == 0.0
    assert diversity(AXES[[0, 1, 0, 1]], np.array([0, 0, 1, 1])).value == 1.0
    assert diversity(AXES, np.arange(4)) is None
    assert spread(AXES).value == 1.0
    assert spread(AXES).low == pytest.approx(1.0), "an image that is drawn twice is no pair"
    assert spread(AXES[:1]) is None
