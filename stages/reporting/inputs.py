"""Read the outs of the other stages as the page needs them."""

import base64
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
from PIL import Image
from pydantic import BaseModel, Field, FiniteFloat

from stages import UserError
from stages.common.hashing import sha256
from stages.common.read_outs import CuratedIndex, File, RendersIndex, read_csv, read_embedding, read_image, read_json
from stages.common.snapshots import step_of
from stages.reporting.measures import Value
from stages.reporting.tables import unused_images

LARGE = 200_000  # bytes; a larger image is embedded as a JPEG of at most SIDE px
SIDE = 512


class SourcedFile(File):
    """A curated image and the file that it was made from."""

    source: str


class NamedIndex(CuratedIndex):
    """data/curated/index.json, with the source files, and the patterns of those that the user excluded."""

    train: list[SourcedFile] = Field(min_length=1)
    holdout: list[SourcedFile]
    excluded: dict[str, str] = Field(default_factory=dict)


class Subjects(BaseModel):
    """The token of each subject."""

    word: str
    initializer: str


class NamedRenders(RendersIndex):
    """data/renders/index.json, with the tokens, and the files of snapshots if there are any."""

    subjects: Subjects
    embeddings: dict[str, Annotated[str, Field(pattern=r"(learned_embeds|step-\d+)\.safetensors$")]] = Field(
        default_factory=dict
    )


class TrainMetrics(BaseModel):
    """data/train.json."""

    learned: bool
    test_fall_percent: FiniteFloat
    test_fall_stderr_percent: FiniteFloat
    best_step: int
    steps_run: int
    stopped_early: bool
    start: str
    nearest_words_start: str
    nearest_words: str


class Metrics(BaseModel):
    """data/metrics.json, as far as the page needs it."""

    closer_to_real: bool
    chosen: str | None = None


@dataclass(frozen=True)
class Inputs:
    """The files and folders that the page shows."""

    raw: Path
    images: Path
    manifest: Path
    curated: Path
    embedding: Path
    train: Path
    loss: Path
    validation: Path
    renders: Path
    estimates: Path
    metrics: Path


def data_uri(path: Path, stage: str) -> str:
    """Read a PNG for the report, as a data URI: as it is if it is small, else scaled down."""
    image, content, kind = read_image(path, stage), path.read_bytes(), "png"
    if len(content) > LARGE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        file, kind = io.BytesIO(), "jpeg"
        image.save(file, "JPEG", quality=88)
        content = file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def read_curve(path: Path, *names: str) -> pd.DataFrame:
    """Read columns of numbers for the report, from a CSV file that `train` writes."""
    columns = dict.fromkeys(names, float)
    return pd.DataFrame(read_csv(path, "train", columns))[[*columns]]


def describe_embedding(path: Path) -> dict:
    """Read the learned embedding for the report: its family, shape, file, SHA-256, and the metadata in its header.

    `widths` has the numbers of a vector in every table of token embeddings.
    """
    vectors, metadata = read_embedding(path)
    content, widths = path.read_bytes(), {name: table.shape[1] for name, table in vectors.items()}
    # A file without vectors for T5 has the same tensors for Stable Diffusion XL and 3.
    is_sd3 = "t5xxl" in widths or "-v3" in metadata.get("modelspec.architecture", "")
    return {
        "family": "sd" if len(widths) == 1 else "sd3" if is_sd3 else "sdxl",
        "vectors": len(next(iter(vectors.values()))),
        "widths": widths,
        "bytes": len(content),
        "sha256": sha256(path),
        "metadata": metadata,
        "uri": f"data:application/octet-stream;base64,{base64.b64encode(content).decode()}",
    }


def read_images(inputs: Inputs, thumbnail: Callable[[Path], str]) -> dict:
    """Read the report's images: the curated ones, the rows of the manifest, and those that were not chosen."""
    curated = read_json(inputs.curated / "index.json", "curate", NamedIndex)
    manifest = read_csv(inputs.manifest, "filter", dict.fromkeys(("file", "phash", "verdict", "reason", "detail"), str))
    for row in manifest:
        if pattern := curated.get("excluded", {}).get(row["file"]):
            row |= {"verdict": "reject", "reason": "excluded", "detail": f"by {pattern}"}
    train, holdout = ({row["source"] for row in curated[part]} for part in ("train", "holdout"))
    return {
        "curated": curated,
        "manifest": manifest,
        "counts": count_images(manifest, train, holdout),
        "unused": unused_images(manifest, train | holdout, inputs.images, thumbnail),
    }


def count_images(manifest: list[dict[str, str]], train: set[str], holdout: set[str]) -> dict[str, int]:
    """Count the report's images that were used, not needed, or rejected, the most frequent reason first."""
    others = [row for row in manifest if row["file"] not in train | holdout]
    unused = sum(row["verdict"] == "keep" for row in others)
    reasons = Counter(sorted(row["reason"] for row in others if row["verdict"] != "keep"))
    counts = {"trained on": len(train), "held out": len(holdout), "usable, not needed": unused}
    return {name: count for name, count in [*counts.items(), *reasons.most_common()] if count}


REQUIRED = [f"image_similarity_{kind}" for kind in ("word", "initializer", "real")]


def read_estimates(path: Path) -> dict[str, Value]:
    """Read the estimates of `evaluate` by name. Raises UserError if the likeness is not among them."""
    columns = {"name": str, "value": float, "low": _optional, "high": _optional}
    rows = read_csv(path, "evaluate", columns)
    estimates = {row["name"]: Value(row["value"], row["low"], row["high"]) for row in rows}
    if lost := [name for name in REQUIRED if name not in estimates]:
        raise UserError(f"{path} cannot be read (no row {lost[0]}); run `dvc repro evaluate`.")
    return estimates


def _optional(text: str) -> float | None:
    return float(text) if text else None


class Snapshot(NamedTuple):
    """An embedding with the subject of its renders and its step; `word` is the one with the lowest validation loss."""

    subject: str
    step: int
    file: str


def read_snapshots(embeddings: dict[str, str], best_step: int) -> list[Snapshot]:
    """Return the report's snapshots and `word` in the order of their steps; `embeddings` has their files by subject."""
    steps = {name: step_of(Path(file)) for name, file in embeddings.items() if name != "word"}
    ordered = sorted((steps | {"word": best_step}).items(), key=lambda item: item[1]) if steps else []
    return [Snapshot(name, step, embeddings.get(name, "")) for name, step in ordered]
