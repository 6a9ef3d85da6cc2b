"""Known answers, by hand."""

import numpy as np
import pytest

from stages.scoring.similarity import Estimate, gap_closed, image_similarity, mean, prompt_similarity, similarity_ratio

RIGHT, UP, DIAGONAL = (1.0, 0.0), (0.0, 1.0), (0.6, 0.8)


def test_nearness_is_the_mean_cosine():
    assert image_similarity(np.array([RIGHT, UP]), np.array([RIGHT, DIAGONAL])).tolist() == pytest.approx([0.8, 0.4])


def test_following_compares_each_with_its_own_sentence():
    assert prompt_similarity(np.array([RIGHT, UP]), np.array([DIAGONAL, DIAGONAL])).tolist() == pytest.approx(
        [0.6, 0.8]
    )


def test_a_mean_and_its_error():
    figure = mean(np.array([1.0, 2.0, 3.0, 4.0]))
    assert figure.value == 2.5
    assert figure.stderr == pytest.approx(np.sqrt(5 / 3) / 2)
    assert mean(np.array([7.0])) == Estimate(7.0, 0.0)


def test_the_recovered_share_is_the_part_of_the_way():
    initializer = np.array([0.5, 0.3])
    assert gap_closed(initializer, initializer, 0.8) == Estimate(0.0, 0.0)
    assert gap_closed(np.array([0.8, 0.8]), initializer, 0.8).value == pytest.approx(1.0)
    assert gap_closed(np.array([0.6, 0.6]), initializer, 0.8).value == pytest.approx(0.5)
    assert gap_closed(np.array([0.4, 0.2]), initializer, 0.8).value < 0
    assert gap_closed(initializer, initializer, 0.4) is None


def test_the_error_of_the_share_is_that_of_repeated_draws():
    random = np.random.default_rng(0)
    common = random.normal(0, 0.05, (4000, 24))
    initializer = 0.4 + common + random.normal(0, 0.02, common.shape)
    word = 0.7 + common + random.normal(0, 0.02, common.shape)
    shares = [gap_closed(w, i, 0.8) for w, i in zip(word, initializer, strict=True)]
    assert np.mean([s.value for s in shares]) == pytest.approx(0.75, abs=0.01)
    assert np.mean([s.stderr for s in shares]) == pytest.approx(np.std([s.value for s in shares]), rel=0.1)


def test_what_is_kept_of_the_prompt():
    initializer = np.array([0.2, 0.4])
    assert similarity_ratio(initializer, initializer) == Estimate(1.0, 0.0)
    assert similarity_ratio(initializer / 2, initializer).value == pytest.approx(0.5)
    assert similarity_ratio(initializer / 2, initializer).stderr == pytest.approx(0.0)
    assert similarity_ratio(initializer, -initializer) is None
