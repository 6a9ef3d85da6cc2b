"""Compare renders with real images and with their prompts.

Legend: R renders, N real images, D width of an encoder's space; every row of embeddings has length 1.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import sem

from stages.scoring.encoders import Clip, Dino

INDEX = ["prompt", "subject", "seed", "file"]


@dataclass(frozen=True)
class ImageSets:
    """The index of the renders (prompt, subject, seed, file, text), the renders themselves, and the real images."""

    index: pd.DataFrame
    renders: list[Image.Image]
    train: list[Image.Image]
    holdout: list[Image.Image]


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    stderr: float


def mean(values: np.ndarray | pd.Series) -> Estimate:
    """Return the mean of values; the standard error of a single value is 0."""
    return Estimate(float(np.mean(values)), float(sem(values)) if len(values) > 1 else 0.0)


def image_similarity(renders: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return the mean cosine similarity (R) of each render (R D) with real images (N D): CLIP-I of Ruiz et al. 2023."""
    return (renders @ real.T).mean(axis=1)


def prompt_similarity(renders: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the cosine similarity (R) of each render (R D) with its own text (R D): CLIP-T of Ruiz et al. 2023."""
    return (renders * texts).sum(axis=1)


def gap_closed(word: pd.Series, initializer: pd.Series, real: float) -> Estimate | None:
    """Return the share of the gap between the initializer token and real images that the learned embedding closes.

    `word` and `initializer` are image similarities of paired renders (R). 0: no closer than the initializer token;
    1: as close as real images. The standard error is that of a ratio of paired means (delta method), with `real` taken
    as exact. Returns None if real images are no closer than the initializer token's renders, so that there is no gap.
    """
    gap = real - initializer.mean()
    if gap <= 1e-6:
        return None
    share = (word.mean() - initializer.mean()) / gap
    return Estimate(float(share), mean((word - initializer) - share * (real - initializer)).stderr / float(gap))


def ratio(word: pd.Series, initializer: pd.Series) -> Estimate | None:
    """Return the ratio of the means of paired values (R), or None if the denominator is not positive."""
    if initializer.mean() <= 1e-6:
        return None
    value = word.mean() / initializer.mean()
    return Estimate(float(value), mean(word - value * initializer).stderr / float(initializer.mean()))


def score(images: ImageSets, clip: Clip, dino: Dino | None) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the scores of every render, and the metrics over all of them (see `summarize`).

    Both subjects are compared with the prompt that has the initializer token in it: CLIP does not know the placeholder
    token, and the question is whether the rest of the prompt is still followed.
    """
    scores, real = images.index[INDEX].copy(), {}
    encoders = {"image": clip} | ({"dino": dino} if dino else {})
    renders = {name: encoder.images(images.renders) for name, encoder in encoders.items()}
    for name, encoder in encoders.items():
        train, holdout = encoder.images(images.train), encoder.images(images.holdout)
        scores[f"{name}_similarity"] = image_similarity(renders[name], holdout)
        scores[f"{name}_similarity_train"] = image_similarity(renders[name], train)
        real[f"{name}_similarity"] = mean(image_similarity(train, holdout))
    rows = images.index[images.index["subject"] == "initializer"]
    texts = images.index["prompt"].map(dict(zip(rows["prompt"], rows["text"], strict=True)))
    scores["prompt_similarity"] = prompt_similarity(renders["image"], clip.texts(texts.tolist()))
    return scores.round(4), summarize(scores, real)


def summarize(scores: pd.DataFrame, real: dict[str, Estimate]) -> dict[str, float]:
    """Return flat metrics: the mean of each score by subject, and what compares the subjects.

    `real` holds the similarity of real images to each other, by score. The suffix `_stderr` marks standard errors, and
    a suffix after a dot the name of the prompt.
    """
    rows = scores.sort_values(["prompt", "seed"])
    word, initializer = (rows[rows["subject"] == subject].reset_index() for subject in ("word", "initializer"))
    estimates: dict[str, Estimate | None] = {}
    for name in scores.columns.drop(INDEX):
        estimates |= {f"{name}_word": mean(word[name]), f"{name}_initializer": mean(initializer[name])}
    for name, estimate in real.items():
        estimates[f"{name}_real"] = estimate
        estimates[f"{name}_gap_closed"] = gap_closed(word[name], initializer[name], estimate.value)
    estimates["prompt_similarity_ratio"] = ratio(word["prompt_similarity"], initializer["prompt_similarity"])
    metrics = {}
    for name, estimate in estimates.items():
        if estimate is not None:
            metrics |= {name: estimate.value, f"{name}_stderr": estimate.stderr}
    for name in ("image_similarity", "prompt_similarity"):
        for (subject, prompt), value in scores.groupby(["subject", "prompt"])[name].mean().items():
            metrics[f"{name}_{subject}.{prompt}"] = value
    return {name: round(float(value), 4) for name, value in metrics.items()}
