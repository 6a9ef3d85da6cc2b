"""Metrics with known answers."""

import numpy as np
import pytest

from stages.scoring.metrics import Estimate, gap_closed, image_similarity, mean, prompt_similarity, ratio

RIGHT, UP, DIAGONAL = (1.0, 0.0), (0.0, 1.0), (0.6, 0.8)


def test_similarities_are_cosines():
    renders = np.array([RIGHT, UP])
    assert image_similarity(renders, np.array([RIGHT, DIAGONAL])).tolist() == pytest.approx([0.8, 0.4])
    assert prompt_similarity(renders, np.array([DIAGONAL, DIAGONAL])).tolist() == pytest.approx([0.6, 0.8])


def test_mean_and_standard_error():
    estimate = mean(np.array([1.0, 2.0, 3.0, 4.0]))
    assert estimate.value == 2.5
    assert estimate.stderr == pytest.approx(np.sqrt(5 / 3) / 2)
    assert mean(np.array([7.0])) == Estimate(7.0, 0.0)


def test_gap_closed():
    initializer = np.array([0.5, 0.3])
    assert gap_closed(initializer, initializer, 0.8) == Estimate(0.0, 0.0)
    assert gap_closed(np.array([0.8, 0.8]), initializer, 0.8).value == pytest.approx(1.0)
    assert gap_closed(np.array([0.6, 0.6]), initializer, 0.8).value == pytest.approx(0.5)
    assert gap_closed(np.array([0.4, 0.2]), initializer, 0.8).value < 0
    assert gap_closed(initializer, initializer, 0.4) is None


def test_standard_error_of_gap_closed_is_that_of_repeated_experiments():
    random = np.random.default_rng(0)
    common = random.normal(0, 0.05, (4000, 24))
    initializer = 0.4 + common + random.normal(0, 0.02, common.shape)
    word = 0.7 + common + random.normal(0, 0.02, common.shape)
    shares = [gap_closed(w, i, 0.8) for w, i in zip(word, initializer, strict=True)]
    assert np.mean([s.value for s in shares]) == pytest.approx(0.75, abs=0.01)
    assert np.mean([s.stderr for s in shares]) == pytest.approx(np.std([s.value for s in shares]), rel=0.1)


def test_ratio():
    initializer = np.array([0.2, 0.4])
    assert ratio(initializer, initializer) == Estimate(1.0, 0.0)
    half = ratio(initializer / 2, initializer)
    assert (half.value, half.stderr) == (pytest.approx(0.5), pytest.approx(0.0))
    assert ratio(initializer, -initializer) is None
