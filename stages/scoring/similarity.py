"""Directions => how near renders are to real pictures and to their prompts, in figures with their standard errors.

Legend: R renders, T training pictures, H held-out pictures, P prompts, D width; every row has length 1.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    stderr: float


def mean(values: np.ndarray) -> Estimate:
    """Values (N) => their mean; the error is 0 where there is one value only."""
    spread = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(float(values.mean()), float(spread))


def image_similarity(renders: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Renders (R D), real pictures (H D) => each render's mean cosine with them (R): CLIP-I of Ruiz et al. 2023."""
    return (renders @ real.T).mean(axis=1)


def prompt_similarity(renders: np.ndarray, sentences: np.ndarray) -> np.ndarray:
    """Renders (R D), the sentence of each (R D) => cosines (R): CLIP-T."""
    return (renders * sentences).sum(axis=1)


def gap_closed(word: np.ndarray, initializer: np.ndarray, real: float) -> Estimate | None:
    """Nearness of paired renders (R, R), nearness of real pictures => the part of the way that the word has come.

    0: no nearer than the initializer word; 1: as near as real pictures are. The error is that of a ratio of paired
    means (delta method), real pictures taken as given. None where real pictures are no nearer than the initializer's:
    there is no way to go.
    """
    way = real - initializer.mean()
    if way <= 1e-6:
        return None
    share = (word.mean() - initializer.mean()) / way
    rest = (word - initializer) - share * (real - initializer)
    return Estimate(float(share), mean(rest).stderr / float(way))


def similarity_ratio(word: np.ndarray, initializer: np.ndarray) -> Estimate | None:
    """Prompt following of paired renders (R, R) => the word's over the initializer's; None where that has none."""
    if initializer.mean() <= 1e-6:
        return None
    ratio = word.mean() / initializer.mean()
    return Estimate(float(ratio), mean(word - ratio * initializer).stderr / float(initializer.mean()))
