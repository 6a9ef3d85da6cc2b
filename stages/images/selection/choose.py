"""Choose the training images and the held-out images, and rank all others."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import UserError
from stages.images.selection.contact_sheet import thumbnail
from stages.images.selection.cropped_duplicates import SIDE, is_part
from stages.images.selection.overrides import match_overrides
from stages.images.selection.params import Curate

POOL = 2  # candidates for each wanted image: diversity may cost only some quality
LEAST_SPREAD = 0.05  # smaller differences of scores are chance


def choose(manifest: pd.DataFrame, features: np.ndarray, params: Curate, raw: Path) -> pd.DataFrame:
    """Rank the rows of a manifest, with features [rows, D], and choose `count` training images and `holdout` others.

    Included images come first. The others are taken one at a time, each by its quality and by its difference from those
    already taken (maximal marginal relevance, Carbonell and Goldstein 1998). An image that shows a part of a training
    image, or its mirror image, is not held out. Returns all rows, the chosen first, with the columns `part` (train,
    holdout, usable or rejected), `note` (why), `mark` (include, exclude or empty) and `pattern` (of the override).
    Raises UserError if there are too few images or the overrides contradict each other.
    """
    files, hashes = manifest["file"].tolist(), manifest["sha256"].tolist()
    included = match_overrides(params.include, files, hashes, "include")
    excluded = match_overrides(params.exclude, files, hashes, "exclude")
    _check_overrides(manifest, included, excluded, params.count)
    scores, groups = manifest["score"].to_numpy(), manifest["group"].to_numpy()
    order = np.lexsort((files, -scores)).tolist()  # best first; equal ones by name
    usable = [row for row in order if manifest["verdict"][row] == "keep" and row not in excluded]
    candidates = [row for row in usable if groups[row] not in groups[list(included)]]
    wanted = params.count - len(included) + params.holdout
    if len(candidates) < wanted:
        raise UserError(_too_few(manifest, len(candidates), wanted, params))
    pool, others = candidates[: POOL * wanted], candidates[POOL * wanted : 10 * POOL * wanted]
    quality = (scores[pool] - scores[pool].min()) / max(np.ptp(scores[pool]), LEAST_SPREAD)
    taken = _diverse(quality, features[pool], features[list(included)], params.diversity)
    ranked = [*included, *(pool[i] for i in taken), *others]
    chosen = ranked[: params.count] + _held_out(ranked, [raw / file for file in files], params)

    table = manifest.assign(part="rejected", note=manifest["reason"], mark="", pattern="")
    table.loc[usable, ["part", "note"]] = "usable"
    table.loc[chosen, "part"] = ["train"] * params.count + ["holdout"] * params.holdout
    table.loc[chosen, "note"] = [f"quality rank {1 + order.index(row)}" for row in chosen]
    for mark, rows in (("include", included), ("exclude", excluded)):
        for row, pattern in rows.items():
            table.loc[row, ["mark", "pattern", "note", "detail"]] = mark, pattern, f"{mark}d by {pattern}", ""
    return table.loc[list(dict.fromkeys([*chosen, *usable, *order]))]


def _held_out(ranked: list[int], paths: list[Path], params: Curate) -> list[int]:
    """Return the first `holdout` of the ranked rows after the training images that show no part of one of these."""
    train, held_out = [thumbnail(paths[row], 2 * SIDE).convert("L") for row in ranked[: params.count]], []
    for row in ranked[params.count :]:
        image = thumbnail(paths[row], 2 * SIDE).convert("L")
        if not any(is_part(image, other) or is_part(other, image) for other in train):
            held_out.append(row)
        if len(held_out) == params.holdout:
            return held_out
    found = f"only {len(held_out)} usable images show no part of a training image, mirrored or not"
    raise UserError(f"curate.holdout is {params.holdout}, but {found}; lower holdout, or add images.")


def _diverse(quality: np.ndarray, pool: np.ndarray, chosen: np.ndarray, diversity: float) -> list[int]:
    """Rank the images of a pool, given their qualities [n] and features [n, D].

    `chosen` holds the features [m, D] of images that are chosen already. Differences count in units of their median in
    the pool, because a class may vary little.
    """
    pool, chosen = _normalize(pool), _normalize(chosen)
    spread = max(float(np.median(1 - pool @ pool.T)), 1e-6)
    difference = np.min([np.ones(len(pool)), *((1 - pool @ image) / spread for image in chosen)], axis=0)
    taken: list[int] = []
    for _ in pool:
        gain = (1 - diversity) * quality + diversity * difference
        gain[taken] = -np.inf
        taken.append(int(np.argmax(gain)))
        difference = np.minimum(difference, (1 - pool @ pool[taken[-1]]) / spread)
    return taken


def _normalize(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)


def _check_overrides(manifest: pd.DataFrame, included: dict, excluded: dict, count: int) -> None:
    for row in included:
        file, reason, detail = manifest.loc[row, ["file", "reason", "detail"]]
        if row in excluded:
            raise UserError(f"curate.include and curate.exclude both match {file}; remove it from one of them.")
        if not manifest["phash"][row]:
            raise UserError(f"curate.include matches {file}, which has no image ({reason}: {detail}); remove it.")
    if len(included) > count:
        raise UserError(f"curate.include matches {len(included)} images, more than curate.count ({count}); raise it.")


def _too_few(manifest: pd.DataFrame, usable: int, wanted: int, params: Curate) -> str:
    reasons = manifest["reason"][manifest["verdict"] == "reject"].value_counts().head(4)
    rejected = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none"
    needed = f"curate needs {wanted} images (count {params.count} + holdout {params.holdout}, without the included)"
    found = f"{usable} of {len(manifest)} in the class are usable (rejected: {rejected})"
    return f"{needed}, but {found}; lower count or holdout, relax filter, or add images."
