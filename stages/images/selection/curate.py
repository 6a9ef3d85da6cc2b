"""Manifest and pictures => the squares to train on, those held out, a contact sheet and a page."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages import UserError
from stages.images.quality.decode import UnreadableError, decode, flatten
from stages.images.selection.choose import Choice, choose
from stages.images.selection.contact_sheet import contact_sheet
from stages.images.selection.page import page
from stages.images.selection.params import Curate
from stages.images.selection.resize import WHITE, resize_to_square

HEADINGS = {
    "train": ("To train on", "the word is learnt from these"),
    "holdout": ("Held out", "it is measured on these"),
    "usable": ("Usable, not chosen", "next in rank"),
    "rejected": ("Rejected", "each with its first reason"),
}


def read(manifest: Path, features: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """filter's outs => the rows, and their features [rows, width] (left on disk until they are asked for)."""
    rows = pd.read_csv(
        manifest, keep_default_na=False, na_values={"class_distance": [""]}, dtype={"phash": str, "sha256": str}
    )
    if rows.empty:
        raise UserError(f"{manifest} has no picture; add some to the class, or set filter.class to another.")
    return rows, np.load(features, mmap_mode="r")


def curate(
    raw: Path, rows: pd.DataFrame, features: np.ndarray, params: Curate, folder: Path
) -> tuple[dict, Image.Image, str]:
    """Rows and features of a class => squares in `folder`/train and /holdout => (index, contact sheet, page)."""
    choice = choose(rows, features, params)
    index = {"class": rows["file"].iloc[0].partition("/")[0], "resolution": params.resolution}
    for part in ("train", "holdout"):
        (folder / part).mkdir(parents=True)
        index[part] = [
            _save(raw, rows.loc[row], choice.why[row], folder / part / f"{i:02d}.png", params)
            for i, row in enumerate(getattr(choice, part))
        ]
    cells = _cells(raw, rows, choice, params)
    title = f"{index['class']}: {len(choice.train)} of {len(rows)} pictures"
    sections = [(key, f"{heading} ({len(cells[key])})", cells[key]) for key, (heading, _) in HEADINGS.items()]
    shown = [
        {"key": key, "heading": f"{heading} ({len(cells[key])})", "note": note, "cells": cells[key]}
        for key, (heading, note) in HEADINGS.items()
    ]
    lead = (
        "All that is in the class, best first: what trains the word, what measures it, what could, and what cannot. "
        "Mark a picture to have it in, or to keep it out; your word is final."
    )
    lists = {"include": params.include, "exclude": params.exclude, "count": params.count}
    return index, contact_sheet(title, sections), page(title, lead, shown, lists)


def _save(raw: Path, row: pd.Series, why: str, target: Path, params: Curate) -> dict:
    content = (raw / row["file"]).read_bytes()
    resize_to_square(content, params.resolution, params.fit, params.background).save(target, "PNG")
    name = f"{target.parent.name}/{target.name}"
    return {"file": name, "source": row["file"], "sha256": row["sha256"], "score": float(row["score"]), "reason": why}


def _cells(raw: Path, rows: pd.DataFrame, choice: Choice, params: Curate) -> dict[str, list[dict]]:
    """=> for each heading its cells, in the order of the ranking."""
    cells = {key: [] for key in HEADINGS}
    train, holdout = set(choice.train), set(choice.holdout)
    terms = [name for name in rows.columns if name.startswith("q_")]
    for row in choice.ranked:
        data, why = rows.loc[row], choice.why[row]
        usable = data["verdict"] == "keep" and not why.startswith("excluded")
        key = "train" if row in train else "holdout" if row in holdout else "usable" if usable else "rejected"
        word, _, pattern = why.partition(" by ")
        mark = {"included": "include", "excluded": "exclude"}.get(word, "")
        picture = not data["problem"]
        cells[key].append(
            {
                "image": partial(_open, raw / data["file"], params.background) if picture else _nothing,
                "name": data["file"].partition("/")[2],
                "note": why,
                "score": f"{data['score']:.2f}" if picture else "",
                "terms": [(name.removeprefix("q_"), f"{data[name]:.2f}") for name in terms] if picture else [],
                "mark": mark,
                "by": pattern if mark else "",
            }
        )
    return cells


def _open(path: Path, background: str) -> Image.Image | None:
    try:
        return flatten(decode(path.read_bytes(), max_megapixels=float("inf")).image, WHITE)
    except UnreadableError:
        return None


def _nothing() -> None:
    return None
