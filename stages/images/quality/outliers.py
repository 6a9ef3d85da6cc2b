"""Find off-class images by their distance to the nearest images of the class."""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

NEAREST = 3  # a class may have several looks: an image needs a few similar ones, not all
FEWEST = 8  # usable images from which the usual distance can be estimated
REFERENCES = 1000  # at most this many evenly spaced images are compared with
LEAST_SPREAD = 0.03  # in a class of almost equal images, a small difference is not a sign of an outlier


def class_distances(vectors: np.ndarray, usable: np.ndarray) -> list[float | None]:
    """Return how many robust standard deviations each vector [n, D] lies beyond the usual distance in the class.

    Vectors have length 1. The distance of an image is the mean cosine distance to its NEAREST among the other usable
    images (bool [n]); the usual one is their median, and a deviation is 1.48 times their median absolute deviation.
    All None if fewer than FEWEST are usable.
    """
    references = np.flatnonzero(usable)
    if len(references) < FEWEST:
        return [None] * len(vectors)
    references = references[np.linspace(0, len(references) - 1, min(len(references), REFERENCES)).astype(int)]
    cosine = KDTree(vectors[references]).query(vectors, NEAREST + 1)[0] ** 2 / 2
    is_reference = np.isin(np.arange(len(vectors)), references)
    nearest = np.where(is_reference, cosine[:, 1:].mean(axis=1), cosine[:, :-1].mean(axis=1))  # [:, 0] is itself
    usual = np.median(nearest[references])
    deviation = 1.4826 * np.median(np.abs(nearest[references] - usual))
    return np.round((nearest - usual) / max(deviation, LEAST_SPREAD), 2).tolist()


def nearest_classes(vectors: np.ndarray, classes: list[str], usable: np.ndarray) -> list[str]:
    """Return for each vector [n, D] the class with the nearest center, the mean of its usable vectors (bool [n])."""
    if not usable.any():
        return classes
    centers = pd.DataFrame(vectors[usable]).groupby(np.array(classes)[usable]).mean()
    return centers.index[KDTree(centers).query(vectors)[1]].tolist()
