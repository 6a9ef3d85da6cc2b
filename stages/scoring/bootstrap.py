"""Estimate statistics over images with a bootstrap 95% interval.

Pairs of images share images, so images are resampled and not pairs. A sample is given by weights over its images, equal
ones for the sample itself: the statistic of a resample is then the same function with other weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, t

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval, which is NaN where a sample of images is too small for one."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def clipped(self, least: float, most: float) -> "Estimate":
        """Return the estimate with its interval within what is possible."""
        return Estimate(self.value, *np.clip((self.low, self.high), least, most).tolist())


def estimate(statistic: Callable[..., np.ndarray], *sizes: int) -> Estimate:
    """Return a statistic of several samples of images, of these sizes.

    `statistic` takes an array of weights (B n) for every sample and returns B values. Each sample is resampled alone;
    the variances add up (two-way clustering, Cameron et al. 2011), times n / (n - 1), because a bootstrap of n images
    underestimates the variance by that factor. The interval uses the quantiles of Student's t with the degrees of
    freedom of Welch and Satterthwaite, because the samples are small.
    """
    equal = [np.full((1, size), 1 / size) for size in sizes]
    value = float(statistic(*equal)[0])
    random, variances = np.random.default_rng(0), []
    for i, size in enumerate(sizes):
        weights = random.multinomial(size, equal[i][0], RESAMPLES) / size
        with np.errstate(invalid="ignore", divide="ignore"):
            values = statistic(*equal[:i], weights, *equal[i + 1 :])
        if size == 1 or np.isfinite(values).mean() < CONFIDENCE:
            return Estimate(value)
        variances.append(np.var(values[np.isfinite(values)]) * size / (size - 1))
    variance = sum(variances)
    if variance < 1e-24:  # rounding
        return Estimate(value, value, value)
    freedom = variance**2 / sum(v**2 / (size - 1) for v, size in zip(variances, sizes, strict=True))
    margin = float(t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance))
    return Estimate(value, value - margin, value + margin)


def mean(values: np.ndarray) -> Estimate:
    """Estimate the mean of a value per image, by a bootstrap over images."""
    values = np.asarray(values, float)
    return estimate(lambda weights: weights @ values, len(values))


def proportion(hits: np.ndarray) -> Estimate:
    """Return the share of hits, with the interval of Wilson (1927): a bootstrap of equal values would have width 0."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(float(hits.mean()), float(interval.low), float(interval.high))


def weighted_mean(similarity: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the means (B) of a matrix (R N) under weights of its rows (B R) and of its columns (B N)."""
    return ((rows @ similarity) * columns).sum(axis=1)
