"""Score every render, and estimate the metrics over them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from stages import UserError
from stages.scoring.bootstrap import Estimate, mean, proportion
from stages.scoring.encoders import Clip, Dino
from stages.scoring.metrics import (
    copied,
    diversity,
    gain,
    gap_closed,
    mean_similarity,
    ratio,
    retrieve,
    spread,
    tradeoff,
)

INDEX = ["prompt", "subject", "seed", "file"]
SETTINGS = ["steps", "guidance_scale"]  # in the index of the renders if the params list several


@dataclass(frozen=True)
class ImageSets:
    """The index of the renders (prompt, subject, seed, file, text), the renders, real images, and the other classes.

    `snapshots` are the subjects that are snapshots of the training.
    """

    index: pd.DataFrame
    renders: list[Image.Image]
    train: list[Image.Image]
    holdout: list[Image.Image]
    gallery: dict[str, list[Image.Image]]
    snapshots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """A row per render, and the estimates by name; a name ends with a subject, or with a dot and a prompt after it."""

    renders: pd.DataFrame
    estimates: dict[str, Estimate]

    def metrics(self) -> dict[str, float | bool]:
        """Return the scores by name, and whether the learned embedding brings the renders closer to the real images.

        It does if the interval of the gain in similarity is above 0, for every encoder.
        """
        values = {name: round(estimate.value, 4) for name, estimate in self.estimates.items()}
        gains = [estimate for name, estimate in self.estimates.items() if name.endswith("_similarity_gain")]
        return values | {"closer_to_real": all((g.value if np.isnan(g.low) else g.low) > 0 for g in gains)}

    def best_tradeoff(self) -> str:
        """Return the subject that scores the best tradeoff, by DINO if measured; of equal ones `word` or the first.

        Raises UserError if no tradeoff could be estimated.
        """
        for prefix in ("dino_tradeoff_", "image_tradeoff_"):
            names = [name for name in self.estimates if name.startswith(prefix)]
            if names:
                return max(names, key=lambda name: self.estimates[name].value).removeprefix(prefix)
        raise UserError(
            "there is no tradeoff, because the training images are no closer to the held-out images than the renders "
            "with the initializer token; choose other images, or set `evaluate.choose: validation`."
        )

    def table(self) -> pd.DataFrame:
        """Return the estimates as rows: name, value, and the ends of the interval."""
        rows = [(name, *vars(estimate).values()) for name, estimate in self.estimates.items()]
        return pd.DataFrame(rows, columns=["name", "value", "low", "high"]).round(4)


class Renders:
    """The index of the renders, by subject; `learned` are the subjects that were trained: `word` and the snapshots."""

    def __init__(self, index: pd.DataFrame, snapshots: tuple[str, ...]) -> None:
        self.learned = ("word", *snapshots)
        self.index = index.reindex(columns=[*INDEX, *SETTINGS, "text"]).reset_index(drop=True)
        ordered = self.index.sort_values(["prompt", *SETTINGS, "seed"], kind="stable")
        # In this order the renders of two subjects are pairs.
        self.rows = {str(subject): group.index.to_numpy() for subject, group in ordered.groupby("subject")}
        self.groups = self.index.groupby(["prompt", *SETTINGS], dropna=False).ngroup().to_numpy()

    def by_prompt(self, subject: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the prompts of a subject with the rows of the renders to score."""
        rows = self.rows[subject]
        prompts = self.index["prompt"].to_numpy()[rows]
        return ((prompt, rows[prompts == prompt]) for prompt in np.unique(prompts))

    def texts(self) -> list[str]:
        """Return the text that each render is compared with: its prompt with the initializer token in it.

        CLIP does not know the placeholder token, and the question is whether the rest of the prompt is still followed.
        A prompt that only another model has stays as it is.
        """
        initializer = self.index.iloc[self.rows["initializer"]]
        texts = dict(zip(initializer["prompt"], initializer["text"], strict=True))
        return self.index["prompt"].map(texts).fillna(self.index["text"]).tolist()


def score(images: ImageSets, clip: Clip, dino: Dino | None) -> Scores:
    """Encode all images, and score the renders by each encoder and by their prompts."""
    renders, estimates = Renders(images.index, images.snapshots), {}
    tables, clip_features = [renders.index[INDEX]], clip.images(images.renders)
    prompts = (clip_features * clip.texts(renders.texts())).sum(axis=1)  # CLIP-T of Ruiz et al. 2023
    for name, encoder in ({"image": clip} | ({"dino": dino} if dino else {})).items():
        features = clip_features if encoder is clip else encoder.images(images.renders)
        train, holdout = encoder.images(images.train), encoder.images(images.holdout)
        others = [encoder.images(group) for group in images.gallery.values()]
        table = _compare_images(features, train, holdout, others)
        estimates |= {f"{name}_{key}": value for key, value in _estimate(renders, table, features, train, holdout)}
        if images.snapshots:
            tradeoffs = _estimate_tradeoffs(renders, features @ holdout.T, train @ holdout.T, prompts)
            estimates |= {f"{name}_tradeoff_{subject}": value for subject, value in tradeoffs}
        if others:
            chance = len(holdout) / (len(holdout) + sum(map(len, others)))
            estimates[f"{name}_gallery_recall_chance"] = Estimate(chance, chance, chance)
        tables.append(table.add_prefix(f"{name}_"))
    tables.append(pd.DataFrame({"prompt_similarity": prompts}))
    estimates |= _estimate_prompts(renders, prompts)
    return Scores(pd.concat(tables, axis=1).round(4), estimates)


def _compare_images(
    renders: np.ndarray, train: np.ndarray, holdout: np.ndarray, others: list[np.ndarray]
) -> pd.DataFrame:
    """Return a row of scores for each render."""
    to_train, to_holdout = renders @ train.T, renders @ holdout.T
    table = pd.DataFrame({"similarity": to_holdout.mean(axis=1), "similarity_train": to_train.mean(axis=1)})
    table["nearest_train"], table["nearest_holdout"] = to_train.max(axis=1), to_holdout.max(axis=1)
    table["copied"] = copied(to_train, to_holdout, holdout @ train.T)
    if others:
        gallery = np.concatenate([holdout, *others])
        relevant = np.arange(len(gallery)) < len(holdout)
        table["gallery_recall"], table["gallery_precision"] = retrieve(renders, gallery, relevant)
    return table


def _estimate(
    renders: Renders, table: pd.DataFrame, features: np.ndarray, train: np.ndarray, holdout: np.ndarray
) -> Iterator[tuple[str, Estimate]]:
    """Yield the estimates of one encoder by name: by subject, by prompt, and those that compare subjects."""
    to_train, to_holdout, real = features @ train.T, features @ holdout.T, train @ holdout.T
    for subject, rows in renders.rows.items():
        yield f"similarity_{subject}", mean_similarity(to_holdout[rows])
        yield f"similarity_train_{subject}", mean_similarity(to_train[rows])
        for prompt, part in renders.by_prompt(subject):
            yield f"similarity_{subject}.{prompt}", mean_similarity(to_holdout[part])
        if varied := diversity(features[rows], renders.groups[rows]):
            yield f"diversity_{subject}", varied
        yield f"copied_{subject}", proportion(table["copied"].to_numpy()[rows])
        if "gallery_recall" in table:
            yield f"gallery_recall_{subject}", proportion(table["gallery_recall"].to_numpy()[rows])
            yield f"gallery_precision_{subject}", mean(table["gallery_precision"].to_numpy()[rows]).clipped(0, 1)
    yield "similarity_real", mean_similarity(real)
    if varied := spread(train):
        yield "diversity_real", varied
    initializer = to_holdout[renders.rows["initializer"]]
    yield "similarity_gain", gain(to_holdout[renders.rows["word"]], initializer)
    for subject in renders.learned:
        if closed := gap_closed(to_holdout[renders.rows[subject]], initializer, real):
            yield f"similarity_gap_closed{_suffix(subject)}", closed


def _estimate_tradeoffs(
    renders: Renders, to_holdout: np.ndarray, real: np.ndarray, prompts: np.ndarray
) -> Iterator[tuple[str, Estimate]]:
    """Yield the tradeoff of every learned subject that has one."""
    initializer = renders.rows["initializer"]
    for subject in renders.learned:
        rows = renders.rows[subject]
        if found := tradeoff(to_holdout[rows], to_holdout[initializer], real, prompts[rows], prompts[initializer]):
            yield subject, found


def _estimate_prompts(renders: Renders, similarity: np.ndarray) -> dict[str, Estimate]:
    """Estimate the similarity with the prompt, by subject and by prompt."""
    estimates = {}
    for subject, rows in renders.rows.items():
        estimates[f"prompt_similarity_{subject}"] = mean(similarity[rows])
        for prompt, part in renders.by_prompt(subject):
            estimates[f"prompt_similarity_{subject}.{prompt}"] = mean(similarity[part])
    for subject in renders.learned:
        if share := ratio(similarity[renders.rows[subject]], similarity[renders.rows["initializer"]]):
            estimates[f"prompt_similarity_ratio{_suffix(subject)}"] = share
    return estimates


def _suffix(learned: str) -> str:
    return "" if learned == "word" else f"_{learned}"
