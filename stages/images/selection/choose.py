"""The manifest => which pictures train, which are held out, and in which order all the others stand."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages import UserError
from stages.images.selection.overrides import match_overrides
from stages.images.selection.params import Curate

POOL = 2  # the choice is among the best, this many times as many as are wanted: variety may cost only some quality
LEAST_SPREAD = 0.05  # of scores: among pictures that are all but equally good, what is left is chance


@dataclass(frozen=True)
class Choice:
    """Rows of the manifest by what became of them; `why` says it for every row."""

    train: list[int]
    holdout: list[int]
    ranked: list[int]
    why: dict[int, str]


def choose(manifest: pd.DataFrame, features: np.ndarray, curate: Curate) -> Choice:
    """A class's rows and features [rows, width] => a choice of `count` to train on and `holdout` beside them.

    What is included comes first, whatever its score. Then pictures are taken one at a time, each the best by quality
    and by how unlike it is to those taken before (maximal marginal relevance, Carbonell and Goldstein 1998). Those held
    out are the next of the same choice. Raises UserError where there are not enough, or the lists contradict.
    """
    files, hashes = manifest["file"].tolist(), manifest["sha256"].tolist()
    include = match_overrides(curate.include, files, hashes, "include")
    exclude = match_overrides(curate.exclude, files, hashes, "exclude")
    _agree(manifest, include, exclude, curate)
    usable = manifest["verdict"].eq("keep").to_numpy()
    order = np.lexsort((files, -manifest["score"].to_numpy()))  # best first; equal ones by name
    twins = {manifest["group"].iloc[row] for row in include}
    free = [
        int(row)
        for row in order
        if usable[row] and row not in include and row not in exclude and manifest["group"].iloc[row] not in twins
    ]
    wanted = curate.count - len(include) + curate.holdout
    if len(free) < wanted:
        raise UserError(_too_few(manifest, len(free), wanted, curate))
    scores = manifest["score"].to_numpy()
    pool = free[: POOL * wanted]
    # In units of the pool's own spread, as unlikeness is: else a wing cut at the frame would weigh next to nothing.
    quality = (scores[pool] - scores[pool].min()) / max(np.ptp(scores[pool]), LEAST_SPREAD)
    gain = np.stack([(1 - curate.diversity) * quality, np.full(len(pool), curate.diversity)])
    taken = _vary(list(include), pool, features, gain, wanted)
    chosen = [*include, *taken]
    train, holdout = chosen[: curate.count], chosen[curate.count :]
    rest = [int(row) for row in order if row not in set(chosen)]
    ranked = [
        *chosen,
        *(r for r in rest if usable[r] and r not in exclude),
        *(r for r in rest if not usable[r] or r in exclude),
    ]
    return Choice(train, holdout, ranked, _why(manifest, include, exclude, taken))


def _vary(chosen: list[int], pool: list[int], features: np.ndarray, gain: np.ndarray, wanted: int) -> list[int]:
    """Rows taken already and a pool => `wanted` rows of the pool, in the order in which they are taken.

    `gain` [2, pool] is what each is worth for its quality, and what it is worth for being wholly unlike the others.
    """
    rows = [*chosen, *pool]
    unit = features[rows].astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    free = unit[len(chosen) :]
    # In units of the pool's own spread: what is varied in one class would be all alike in another.
    spread = max(float(np.median(1 - free @ free.T)), 1e-6)
    unlike = np.ones(len(pool))
    for one in unit[: len(chosen)]:
        unlike = np.minimum(unlike, (1 - free @ one) / spread)
    taken: list[int] = []
    for _ in range(wanted):
        worth = gain[0] + gain[1] * unlike
        worth[taken] = -np.inf
        taken.append(int(np.argmax(worth)))
        unlike = np.minimum(unlike, (1 - free @ free[taken[-1]]) / spread)
    return [pool[i] for i in taken]


def _agree(manifest: pd.DataFrame, include: dict, exclude: dict, curate: Curate) -> None:
    files = manifest["file"]
    both = [row for row in include if row in exclude]
    if both:
        raise UserError(f"curate.include and curate.exclude both name {files[both[0]]}; leave it in one of them.")
    broken = [row for row in include if manifest["problem"].iloc[row]]
    if broken:
        row = broken[0]
        raise UserError(
            f"curate.include names {files[row]}, which has no picture to give ({manifest['problem'].iloc[row]}); "
            "leave it out."
        )
    if len(include) > curate.count:
        raise UserError(
            f"curate.include names {len(include)} pictures, more than curate.count ({curate.count}); raise count or "
            "name fewer."
        )


def _too_few(manifest: pd.DataFrame, free: int, wanted: int, curate: Curate) -> str:
    reasons = manifest.loc[manifest["verdict"].eq("reject"), "reason"].str.split(":").str[0].str.split(" of ").str[0]
    why = ", ".join(f"{reason} {count}" for reason, count in Counter(reasons).most_common(4))
    return (
        f"curate wants {wanted} pictures (count {curate.count} + holdout {curate.holdout}, less those included), but "
        f"of {len(manifest)} in the class {free} are usable and free{f' (rejected: {why})' if why else ''}; lower "
        "count or holdout, loosen filter, or add pictures."
    )


def _why(manifest: pd.DataFrame, include: dict, exclude: dict, taken: list) -> dict[int, str]:
    """=> a row => a few words for the sheet and the page."""
    why = {}
    ranks = manifest["score"].rank(ascending=False, method="first").astype(int)
    for row, reason in enumerate(manifest["reason"]):
        why[row] = reason or "usable"
    for row in taken:
        why[row] = f"quality rank {ranks.iloc[row]}"
    for row, pattern in include.items():
        why[row] = f"included by {pattern}"
    for row, pattern in exclude.items():
        why[row] = f"excluded by {pattern}"
    return why
