"""How far a picture is from the others of its class: what tells a stranger that came into the folder by mistake.

Legend: n pictures, r of them for reference, D length of a vector. Vectors have length 1: palettes, or CLIP's features.
"""

import numpy as np

NEAREST = 3  # a class may have several looks (by day, by night): a picture needs a few like itself, not all
FEWEST = 8  # of less, one cannot say what is usual
MOST = 1000  # pictures for reference, evenly spaced: more change nothing but the time
PIECE = 4096
LEAST_SPREAD = 0.03  # in a class of all but equal pictures a small difference is no sign


def class_distances(vectors: np.ndarray, usable: np.ndarray) -> np.ndarray | None:
    """Vectors [n, D], and which are usable [n] bool => [n] robust deviations beyond the class's usual distance.

    A picture's distance is the mean one (1 - cosine) to its NEAREST among the usable others; the usual one is the
    median of theirs, and a deviation 1.48 times the median absolute one. None where fewer than FEWEST are usable.
    """
    reference = np.flatnonzero(usable)
    if reference.size < FEWEST:
        return None
    reference = reference[np.linspace(0, reference.size - 1, min(reference.size, MOST)).astype(int)]
    known = np.asarray(vectors[reference], np.float32)
    apart = np.empty(len(vectors), np.float32)
    for first in range(0, len(vectors), PIECE):
        piece = np.asarray(vectors[first : first + PIECE], np.float32)
        between = 1 - piece @ known.T
        between[reference == np.arange(first, first + len(piece))[:, None]] = np.inf  # itself
        apart[first : first + len(piece)] = np.partition(between, NEAREST - 1, axis=1)[:, :NEAREST].mean(axis=1)
    usual = np.median(apart[reference])
    spread = max(1.4826 * float(np.median(np.abs(apart[reference] - usual))), LEAST_SPREAD)
    return np.round((apart - usual) / spread, 2)
