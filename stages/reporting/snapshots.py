"""Prepare the snapshots of the training for the page: their steps, and their measures as panels of a chart."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stages.reporting.charts import Panel
from stages.reporting.measures import ENCODERS, Value


class Snapshot(NamedTuple):
    """An embedding with the subject of its renders and its step; `word` is the one with the lowest validation loss."""

    subject: str
    step: int
    file: str


def read_snapshots(embeddings: dict[str, str], best_step: int) -> list[Snapshot]:
    """Return the snapshots and `word` in the order of their steps; `embeddings` has their files by subject."""
    steps = {name: int(Path(file).stem.rpartition("-")[2]) for name, file in embeddings.items() if name != "word"}
    ordered = sorted((steps | {"word": best_step}).items(), key=lambda item: item[1]) if steps else []
    return [Snapshot(name, step, embeddings.get(name, "")) for name, step in ordered]


def panels(snapshots: list[Snapshot], estimates: dict[str, Value], chosen: Snapshot | None) -> list[Panel]:
    """Return a panel for the likeness, the similarity with the prompts, and the tradeoff if it could be estimated.

    The first and the last are by DINO if it was measured, as `evaluate` chooses. Marked is `chosen`, or else `word`.
    """
    encoder = "dino" if "dino_tradeoff_word" in estimates else "image"
    titles = {
        f"{encoder}_similarity": f"likeness, by {ENCODERS[encoder]}",
        "prompt_similarity": "follows the prompt, by CLIP",
        f"{encoder}_tradeoff": "tradeoff of both",
    }
    (marked,) = (row.step for row in snapshots if row == chosen or (not chosen and row.subject == "word"))
    found = []
    for key, title in titles.items():
        values = {row.step: estimates.get(f"{key}_{row.subject}") for row in snapshots}
        rows = [(step, value.value, value.low, value.high) for step, value in values.items() if value]
        table = pd.DataFrame(rows, columns=["step", "value", "low", "high"], dtype=float)
        floor_and_ceiling = [estimates.get(f"{key}_{kind}") for kind in ("initializer", "real")]
        if values.get(marked):
            found.append(Panel(title, table, [value.value for value in floor_and_ceiling if value], marked))
    return found
