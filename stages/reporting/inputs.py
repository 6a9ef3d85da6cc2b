"""Read the outs of the other stages as the page needs them."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from stages.common.files import sha256
from stages.common.read_outs import CuratedIndex, File, RendersIndex, read_csv, read_embedding, read_image

LARGE = 200_000  # bytes; a larger image is embedded as a JPEG of at most SIDE px
SIDE = 512


class SourcedFile(File):
    """A curated image and the file that it was made from."""

    source: str


class NamedIndex(CuratedIndex):
    """data/curated/index.json, with the source files."""

    train: list[SourcedFile] = Field(min_length=1)
    holdout: list[SourcedFile]


class Subjects(BaseModel):
    """The token of each subject."""

    word: str
    initializer: str


class NamedRenders(RendersIndex):
    """data/renders/index.json, with the tokens."""

    subjects: Subjects


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


class Metrics(BaseModel, extra="allow"):
    """data/metrics.json: numbers; those on the page have a standard error."""

    __pydantic_extra__: dict[str, FiniteFloat]
    image_similarity_initializer: FiniteFloat
    image_similarity_word: FiniteFloat
    image_similarity_real: FiniteFloat

    @model_validator(mode="after")
    def _has_errors(self) -> "Metrics":
        extra = self.__pydantic_extra__
        lost = [name for name in extra if name.endswith(("_closed", "_ratio")) and f"{name}_stderr" not in extra]
        if lost:
            raise ValueError(f"{lost[0]} has no standard error")
        return self


@dataclass(frozen=True)
class Inputs:
    """The files and folders that the page shows."""

    raw: Path
    manifest: Path
    curated: Path
    embedding: Path
    train: Path
    loss: Path
    validation: Path
    renders: Path
    metrics: Path


def data_uri(path: Path, stage: str) -> str:
    """Return a PNG as a data URI: as it is if it is small, else scaled down."""
    image, content, kind = read_image(path, stage), path.read_bytes(), "png"
    if len(content) > LARGE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        file, kind = io.BytesIO(), "jpeg"
        image.save(file, "JPEG", quality=88)
        content = file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def read_curve(path: Path, *names: str) -> pd.DataFrame:
    """Return columns of a CSV file of numbers that `train` writes."""
    columns = dict.fromkeys(names, float)
    return pd.DataFrame(read_csv(path, "train", columns))[[*columns]]


def describe_embedding(path: Path) -> dict:
    """Return the shape of the learned embedding, the size and SHA-256 of its file, and the metadata in its header."""
    vectors, metadata = read_embedding(path)
    size = {"vectors": len(vectors), "width": vectors.shape[1], "bytes": path.stat().st_size}
    return size | {"sha256": sha256(path), "metadata": metadata}


def count_images(manifest: list[dict[str, str]], train: set[str], holdout: set[str]) -> dict[str, int]:
    """Return how many images were used, not needed, or rejected, the most frequent reason first."""
    others = [row for row in manifest if row["file"] not in train | holdout]
    unused = sum(row["verdict"] == "keep" for row in others)
    reasons = Counter(sorted(row["reason"] for row in others if row["verdict"] != "keep"))
    counts = {"trained on": len(train), "held out": len(holdout), "usable, not needed": unused}
    return {name: count for name, count in [*counts.items(), *reasons.most_common()] if count}


def provenance_facts(raw: dict, embedding: dict) -> dict[str, str]:
    """Return where the images come from, and the metadata in the embedding's header."""
    facts = {"images from": " ".join(str(raw[key]) for key in ("source", "name", "version") if raw.get(key))}
    facts |= {key: str(raw[key]) for key in ("licence", "content_sha256") if raw.get(key)}
    metadata = {key.replace("_", " "): value for key, value in sorted(embedding["metadata"].items())}
    return facts | {"embedding SHA-256": embedding["sha256"]} | metadata
