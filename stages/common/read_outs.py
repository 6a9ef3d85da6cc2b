"""Read the outs of earlier stages, or raise a UserError that names the stage to run again.

An out can have been changed by hand: every loader checks the fields that its readers use.
"""

import contextlib
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, TypeAdapter, model_validator
from safetensors import safe_open

from stages import UserError

TABLES = ("clip_l", "clip_g", "t5xxl")  # tensors of an embedding of Stable Diffusion XL or 3, in their order


class File(BaseModel):
    """An image of the folder that an index is in."""

    file: str


class CuratedFile(File):
    """A curated image: the height and width that it had, and the top and left of its crop, if they are recorded."""

    original_size: tuple[PositiveInt, PositiveInt] | None = None
    crop: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)


class CuratedIndex(BaseModel):
    """data/curated/index.json."""

    class_: str = Field(alias="class")
    train: list[CuratedFile] = Field(min_length=1)
    holdout: list[CuratedFile]


class RenderedFile(File):
    """A render: its prompt's name, its subject, its seed, and the prompt with the subject's token in it."""

    prompt: str
    subject: str
    seed: int
    text: str


class RendersIndex(BaseModel):
    """data/renders/index.json; with snapshots, `embeddings` has the file of each, and of the subject `word`."""

    renders: list[RenderedFile] = Field(alias="cells", min_length=1)
    embeddings: dict[str, str] = {}

    @model_validator(mode="after")
    def _has_pairs(self) -> "RendersIndex":
        pairs = {
            subject: sorted((row.prompt, row.seed) for row in self.renders if row.subject == subject)
            for subject in ("initializer", "word", *self.embeddings)
        }
        if unpaired := [subject for subject in pairs if pairs[subject] != pairs["initializer"]]:
            raise ValueError(f"the renders of {unpaired[0]} and of the initializer token are no pairs")
        return self


def read_json(path: Path, stage: str, kind: Any = dict) -> Any:
    """Return the value of a JSON file that `stage` writes, and that has the fields of `kind`."""
    with reading(path, stage):
        value = json.loads(path.read_text(encoding="utf-8"))
        TypeAdapter(kind).validate_python(value)
        return value


def read_csv(path: Path, stage: str, columns: dict[str, type]) -> list[dict[str, Any]]:
    """Return the rows, at least one, of a CSV file that `stage` writes; `columns` must be there, and are converted."""
    with reading(path, stage), path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
        if not rows or any(None in row or None in row.values() for row in rows):
            raise ValueError("it has no rows, or not the same columns in all")
        for row in rows:
            row |= {name: kind(row[name]) for name, kind in columns.items()}
            if any(isinstance(value, float) and not math.isfinite(value) for value in row.values()):
                raise ValueError("it contains NaN or Inf")
        return rows


def read_text(path: Path) -> str:
    """Read a text that a user wrote and a stage copied, without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise UserError(f"{path} is not UTF-8 ({error}); correct the text file that it was copied from.") from None


def read_image(path: Path, stage: str) -> Image.Image:
    """Read an image that `stage` has written, as RGB."""
    with reading(path, f"-f {stage}"), Image.open(path) as image:
        return image.convert("RGB")


def read_embedding(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a learned_embeds.safetensors that train has written: the vectors (V D) in each table, and its metadata.

    The table is `clip`, or the tables are `clip_l`, `clip_g` and, for Stable Diffusion 3 with T5, `t5xxl`.
    """
    with reading(path, "train"), safe_open(path, "numpy") as file:
        vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        vectors.pop("t5", None)  # the same as t5xxl
        if len(vectors) == 1:
            vectors = {"clip": next(iter(vectors.values()))}
        elif {*TABLES[:2]} <= vectors.keys() <= {*TABLES}:
            vectors = {name: vectors[name] for name in TABLES if name in vectors}
        else:
            raise ValueError(f"it has the tensors {', '.join(vectors)}")
        for table in vectors.values():
            if table.ndim != 2 or not table.size or not np.isfinite(table).all():
                raise ValueError(f"an embedding of shape {table.shape}, or with NaN or Inf")
        if len({len(table) for table in vectors.values()}) > 1:
            raise ValueError("its tensors have different numbers of vectors")
        return vectors, file.metadata() or {}


@contextlib.contextmanager
def reading(path: Path, stage: str) -> Iterator[None]:
    """Turn any error in the block, which reads an out of `stage`, into a UserError."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        yield
    except Exception as error:  # the readers of damaged files raise errors of almost every class
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read ({cause}); run `dvc repro {stage}`.") from None
