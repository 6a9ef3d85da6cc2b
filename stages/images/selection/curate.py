"""Curate a class: square training and held-out images, their index, a contact sheet and a page."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages import UserError
from stages.common.files import png_bytes, write_atomic
from stages.common.read_outs import read_csv, read_text
from stages.images.selection.choose import choose
from stages.images.selection.contact_sheet import contact_sheet
from stages.images.selection.curated_page import render_page
from stages.images.selection.params import Curate
from stages.images.selection.resize import resize_to_square

TEXTS = ("file", "sha256", "phash", "verdict", "reason", "detail")
COLUMNS = dict.fromkeys(TEXTS, str) | {"score": float, "group": int}


def read_manifest(manifest: Path, features: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read what to curate: the rows and the features [rows, D] of filter. Raises UserError if they are not usable."""
    rows = pd.DataFrame(read_csv(manifest, "filter", COLUMNS))
    try:
        rows, vectors = rows.astype({name: float for name in rows if name.startswith("q_")}), np.load(features)
        if len(rows) != len(vectors) or vectors.ndim != 2 or rows["file"].duplicated().any():
            raise ValueError(f"{len(rows)} rows, features of shape {vectors.shape}")
    except (OSError, ValueError, TypeError, EOFError, MemoryError) as error:
        raise UserError(f"{manifest} or {features} cannot be read ({error}); run `dvc repro filter`.") from None
    return rows, vectors


def curate(
    raw: Path, manifest: pd.DataFrame, features: np.ndarray, params: Curate, folder: Path
) -> tuple[dict, Image.Image, str]:
    """Write the chosen images to `folder`; return their index, the contact sheet and the page."""
    table = choose(manifest, features, params, raw)
    index = {"class": manifest["file"][0].partition("/")[0], "resolution": params.resolution}
    for part in ("train", "holdout"):
        index[part] = []
        for i, row in enumerate(table[table["part"] == part].itertuples()):
            file = f"{part}/{i:02d}.png"
            content = (raw / row.file).read_bytes()
            square, sizes = resize_to_square(content, params.resolution, params.fit, params.background)
            write_atomic(folder / file, png_bytes(square))
            if (caption := raw / f"{row.file}.txt").is_file():
                write_atomic(folder / f"{part}/{i:02d}.txt", read_text(caption))
            source = {"source": row.file, "sha256": row.sha256, "score": row.score, "reason": row.note}
            index[part].append({"file": file} | source | sizes)
    if (excluded := table[table["mark"] == "exclude"]).size:
        index["excluded"] = dict(zip(excluded["file"], excluded["pattern"], strict=True))
    title = f"{index['class']}: {params.count} of {len(table)} images"
    return index, contact_sheet(title, table, raw), render_page(title, table, raw, params)
