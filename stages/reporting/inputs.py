"""The files that the other stages left => plain values and embedded pictures."""

import base64
import csv
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stages import UserError

EMBEDDED_AS_IS = 200_000  # bytes; a larger file is embedded as a smaller JPEG
SIDE = 512


@dataclass(frozen=True)
class Inputs:
    """Where everything lies that the page tells."""

    receipt: Path
    manifest: Path
    curated: Path
    embedding: Path
    train: Path
    loss: Path
    objective: Path
    renders: Path
    metrics: Path


def read_json(path: Path) -> dict:
    """Raises UserError for a file that is not there or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run `dvc repro`.") from None


def read_csv(path: Path) -> list[dict[str, str]]:
    """Raises UserError for a file that is not there."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); run `dvc repro`.") from None


def picture(path: Path) -> str:
    """A picture file => a data URI: its own bytes if they are few, else a JPEG of at most 512 px a side."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if len(content) <= EMBEDDED_AS_IS and image.format in ("PNG", "JPEG"):
                kind = image.format.lower()
            else:
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                smaller = io.BytesIO()
                image.convert("RGB").save(smaller, "JPEG", quality=88)
                content, kind = smaller.getvalue(), "jpeg"
    except OSError as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); run `dvc repro`.") from None
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def word(path: Path) -> dict:
    """The file of the learnt word => its numbers' shape, bytes, SHA-256, and what its header says of its making."""
    try:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a word ({error}); run `dvc repro train`.") from None
    origin = header.pop("__metadata__", {})
    vectors, width = next(iter(header.values()))["shape"]
    digest = hashlib.sha256(content).hexdigest()
    return {"vectors": vectors, "width": width, "bytes": len(content), "sha256": digest, "origin": origin}


def choice(rows: list[dict[str, str]], train: set[str], holdout: set[str]) -> list[dict]:
    """The manifest's rows, the files chosen => what became of all, from the chosen to the rarest reason."""
    left = [row for row in rows if row["file"] not in train | holdout]
    kept = sum(row["verdict"] == "keep" for row in left)
    reasons = Counter(row["reason"].split(":")[0].split(" of ")[0] for row in left if row["verdict"] != "keep")
    parts = [
        ("learnt from", len(train), "word"),
        ("held out", len(holdout), "held"),
        ("usable, not needed", kept, "left"),
    ]
    parts += [(reason, count, "out") for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))]
    most = max(count for _, count, _ in parts)
    return [
        {"name": name, "count": count, "kind": kind, "part": round(100 * count / most)}
        for name, count, kind in parts
        if count
    ]
