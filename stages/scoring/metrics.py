"""Compare renders with real images, with images of other classes, and with their prompts.

Legend: R renders, N real images, G images of a gallery, D width of an encoder's space, B resamples. Every row of
embeddings has length 1, so that products are cosine similarities.
"""

from collections.abc import Callable

import numpy as np

from stages.scoring.bootstrap import Estimate, estimate, mean, weighted_mean

MAX_DISTANCE_RATIO = 0.5


def mean_similarity(similarity: np.ndarray) -> Estimate:
    """Return the mean over all pairs (R N): CLIP-I or DINO of Ruiz et al. 2023."""
    return estimate(lambda rows, columns: weighted_mean(similarity, rows, columns), *similarity.shape)


def gain(word: np.ndarray, initializer: np.ndarray) -> Estimate:
    """Return by how much paired renders (R N, both) with the learned embedding are closer to these real images (N)."""
    return mean((word - initializer).mean(axis=1))


def gap_closed(word: np.ndarray, initializer: np.ndarray, real: np.ndarray) -> Estimate | None:
    """Return the share of the gap between the initializer token and real images that the learned embedding closes.

    `word` and `initializer` are similarities of paired renders with held-out images (R N), `real` those of training
    images with the same held-out images. 0: no closer than the initializer token; 1: as close as real images. Returns
    None if real images are no closer than the initializer token's renders, so that there is no gap.
    """
    share = _share_of_gap(word, initializer, real)
    return estimate(share, *word.shape, len(real)) if share else None


def _share_of_gap(word: np.ndarray, initializer: np.ndarray, real: np.ndarray) -> Callable[..., np.ndarray] | None:
    """Return the share as a function of the weights of renders, held-out images and training images."""

    def share(renders: np.ndarray, holdout: np.ndarray, train: np.ndarray) -> np.ndarray:
        low, high = weighted_mean(initializer, renders, holdout), weighted_mean(real, train, holdout)
        return (weighted_mean(word, renders, holdout) - low) / (high - low)

    return share if real.mean() - initializer.mean() > 1e-6 else None


def ratio(word: np.ndarray, initializer: np.ndarray) -> Estimate | None:
    """Return the ratio of the means of paired similarities (R), or None if the denominator is not positive."""
    if initializer.mean() <= 1e-6:
        return None
    return estimate(lambda weights: (weights @ word) / (weights @ initializer), len(word))


def tradeoff(
    word: np.ndarray, initializer: np.ndarray, real: np.ndarray, word_prompts: np.ndarray, prompts: np.ndarray
) -> Estimate | None:
    """Return the geometric mean of the gap closed and of the ratio of the similarities with the prompts.

    The similarities with images are those of `gap_closed`; `word_prompts` and `prompts` are the similarities of the
    same renders with their prompts (R), with the learned embedding and with the initializer token. A negative factor
    counts as 0. Returns None if there is no gap or no ratio.
    """
    share = _share_of_gap(word, initializer, real)
    if not share or prompts.mean() <= 1e-6:
        return None

    def both(renders: np.ndarray, holdout: np.ndarray, train: np.ndarray) -> np.ndarray:
        followed = (renders @ word_prompts) / (renders @ prompts)
        return np.sqrt(share(renders, holdout, train).clip(0) * followed.clip(0))

    return estimate(both, *word.shape, len(real)).clipped(0, np.inf)


def diversity(renders: np.ndarray, groups: np.ndarray) -> Estimate | None:
    """Return the mean distance of renders (R D) to each other in a group (R): those of one prompt, with several seeds.

    The interval is over the groups. Returns None if there is a single seed.
    """
    parts = [renders[groups == group] for group in np.unique(groups)]
    distances = [1 - (part @ part.T)[np.triu_indices(len(part), 1)].mean() for part in parts if len(part) > 1]
    return mean(np.array(distances)).clipped(0, 2) if distances else None


def spread(images: np.ndarray) -> Estimate | None:
    """Return the mean distance of images (N D) to each other; None for a single image."""
    if len(images) == 1:
        return None
    distances = 1 - images @ images.T
    np.fill_diagonal(distances, 0)  # an image that is drawn twice is no pair
    return estimate(
        lambda weights: weighted_mean(distances, weights, weights) / (1 - (weights**2).sum(axis=1)), len(images)
    )


def retrieve(renders: np.ndarray, gallery: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the nearest image of a gallery (G D) is relevant (R), and the average precision of renders (R D).

    The gallery has held-out images of the class, which are `relevant` (G), and images of the other classes.
    """
    order = np.argsort(-(renders @ gallery.T), axis=1, kind="stable")
    found = relevant[order]
    precision = found.cumsum(axis=1) / np.arange(1, len(gallery) + 1)
    return found[:, 0], (precision * found).sum(axis=1) / relevant.sum()


def copied(train: np.ndarray, holdout: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return which renders look like copies of a training image (R).

    `train` and `holdout` are similarities of the renders (R N), and `real` those of held-out images with training
    images. A copy is closer to its nearest training image than any held-out image is to one, and its distance to it is
    at most MAX_DISTANCE_RATIO of that to the nearest held-out image.
    """
    nearest = train.max(axis=1)
    ratio_is_low = 1 - nearest <= MAX_DISTANCE_RATIO * (1 - holdout.max(axis=1))
    return ratio_is_low & (nearest > real.max() + 1e-6)
