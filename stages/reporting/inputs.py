"""Read the outs of the other stages as the page needs them."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image
from safetensors import SafetensorError, safe_open

from stages import UserError
from stages.common.files import sha256
from stages.common.outs import read_csv, read_image

LARGE = 200_000  # bytes; a larger image is embedded as a JPEG of at most SIDE px
SIDE = 512


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


def read_curve(path: Path) -> pd.DataFrame:
    """Return a CSV file of numbers that `train` writes."""
    return pd.DataFrame(read_csv(path, "train")).astype(float)


def read_embedding(path: Path) -> dict:
    """Return the shape of the learned embedding, the size and SHA-256 of its file, and the metadata in its header."""
    try:
        with safe_open(path, "numpy") as file:
            vectors, width = file.get_slice(next(iter(file.keys()))).get_shape()
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); run `dvc repro train`.") from None
    size = path.stat().st_size
    return {"vectors": vectors, "width": width, "bytes": size, "sha256": sha256(path), "metadata": metadata}


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
