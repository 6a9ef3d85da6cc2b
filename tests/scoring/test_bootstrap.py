"""The intervals cover the truth as often as they say, however few images there are."""

import numpy as np
import pytest

from stages.scoring.bootstrap import Estimate, estimate, mean, proportion
from stages.scoring.metrics import mean_similarity


@pytest.mark.parametrize(("renders", "real"), [(12, 3), (6, 6)])
def test_interval_covers_the_truth_in_95_of_100_sets(renders: int, real: int):
    """Pairs share images: the interval of 36 independent pairs would cover it in about 70 of 100 sets."""
    random, covered = np.random.default_rng(0), 0
    means = np.zeros((2, 8))
    means[:, 0] = 1
    for _ in range(1000):
        rows, columns = (mean + random.normal(0, 0.3, (n, 8)) for mean, n in zip(means, (renders, real), strict=True))
        found = mean_similarity(rows @ columns.T)
        covered += found.low <= means[0] @ means[1] <= found.high
    assert 930 <= covered <= 970


def test_interval_of_a_mean_is_that_of_student():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    found = mean(values)
    margin = 3.182 * values.std(ddof=1) / 2  # the 97.5 % quantile for three degrees of freedom
    assert found.value == 2.5
    assert (2.5 - found.low, found.high - 2.5) == pytest.approx((margin, margin), rel=0.05)
    assert mean(values) == found, "the resamples are the same every time"


def test_samples_without_a_spread():
    assert mean(np.array([7.0, 7.0])) == Estimate(7.0, 7.0, 7.0)
    assert str(mean(np.array([7.0]))) == str(Estimate(7.0)), "one image has no interval"
    assert np.isnan(estimate(lambda weights: weights[:, 0] / (weights[:, 0] > 0), 2).low), "undefined resamples"


def test_proportion_is_not_certain_because_all_agree():
    found = proportion(np.array([True] * 12))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.757, abs=1e-3)  # Wilson: n / (n + 1.96²)
    assert proportion(np.array([True, False])).value == 0.5
