"""Renders, real pictures, encoders => a row of scores a render, and the figures of all of them.

Legend: R renders, P prompts, D width of an encoder's space.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from stages.scoring.encoders import Clip, Dino
from stages.scoring.similarity import Estimate, gap_closed, image_similarity, mean, prompt_similarity, similarity_ratio

COLUMNS = ["prompt", "subject", "seed", "file"]


@dataclass(frozen=True)
class ImageSets:
    """The index of the renders (prompt, subject, text, seed, file), their pictures, and the real ones."""

    index: pd.DataFrame
    renders: list[Image.Image]
    train: list[Image.Image]
    holdout: list[Image.Image]


def score(images: ImageSets, clip: Clip, dino: Dino | None) -> tuple[pd.DataFrame, dict[str, float]]:
    """=> a row a render, and flat figures (`_stderr`: standard errors; after a dot: those of one prompt).

    The sentence that a render is compared with is its prompt with the initializer word in it, for both subjects: the
    encoder knows no new word, and what it is asked is whether the rest of the prompt is still heard.
    """
    rows = images.index[COLUMNS].copy()
    seen = clip.pictures(images.renders)
    real = {"image": _compare(rows, "image", seen, (clip.pictures(images.train), clip.pictures(images.holdout)))}
    if dino is not None:
        looks = [dino.pictures(images) for images in (images.renders, images.train, images.holdout)]
        real["dino"] = _compare(rows, "dino", looks[0], (looks[1], looks[2]))
    rows["prompt_following"] = prompt_similarity(seen, _meanings(images.index, clip))
    return rows.round(4), figures(rows, real)


def figures(rows: pd.DataFrame, real: dict[str, Estimate]) -> dict[str, float]:
    """A row a render, and by encoder (image, dino) how near real pictures are to each other => flat figures."""
    word, initializer = (_paired(rows, subject) for subject in ("word", "initializer"))
    said: dict[str, Estimate | None] = {}
    for name, there in real.items():
        near = f"{name}_similarity"
        share = "recovered_share" if name == "image" else f"{name}_recovered_share"
        for part in (near, f"{near}_train"):
            said |= {f"{part}_word": mean(word[part]), f"{part}_initializer": mean(initializer[part])}
        said |= {f"{near}_real": there, share: gap_closed(word[near], initializer[near], there.value)}
    part = "prompt_following"
    said |= {f"{part}_word": mean(word[part]), f"{part}_initializer": mean(initializer[part])}
    said[f"{part}_kept"] = similarity_ratio(word[part], initializer[part])
    known = {name: figure for name, figure in said.items() if figure is not None}
    flat = {name: figure.value for name, figure in known.items()}
    flat |= {f"{name}_stderr": figure.stderr for name, figure in known.items()}
    for part in ("image_similarity", "prompt_following"):
        for subject, scores in (("word", word), ("initializer", initializer)):
            flat |= {
                f"{part}_{subject}.{key}": value for key, value in scores[part].groupby(level="prompt").mean().items()
            }
    return {name: round(float(value), 4) for name, value in flat.items()}


def _compare(rows: pd.DataFrame, name: str, seen: np.ndarray, real: tuple[np.ndarray, np.ndarray]) -> Estimate:
    """Renders (R D), real pictures to train on and held out => columns of `rows`, and how near those two are."""
    rows[f"{name}_similarity"] = image_similarity(seen, real[1])
    rows[f"{name}_similarity_train"] = image_similarity(seen, real[0])
    return mean(image_similarity(*real))


def _meanings(index: pd.DataFrame, clip: Clip) -> np.ndarray:
    """The index (R) => the sentence of each render as the encoder sees it (R D)."""
    plain = index[index["subject"] == "initializer"].drop_duplicates("prompt").set_index("prompt")["text"]
    meanings = dict(zip(plain.index, clip.sentences(plain.tolist()), strict=True))
    return np.stack([meanings[key] for key in index["prompt"]])


def _paired(rows: pd.DataFrame, subject: str) -> pd.DataFrame:
    """A subject's rows by prompt and seed, in the same order for both subjects."""
    return rows[rows["subject"] == subject].set_index(["prompt", "seed"]).sort_index()
