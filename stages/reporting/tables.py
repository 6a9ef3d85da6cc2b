"""Prepare params, provenance and the manifest as rows of tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic_core import PydanticUndefined

from stages.common.params import schema
from stages.common.read_outs import reading

MOST_FILES = 200
NAMES = {
    "base_model": "base model",
    "revision": "commit of the base model",
    "token": "placeholder token",
    "initializer": "initializer token",
    "step": "step of the embedding",
    "steps": "steps trained",
    "seed": "seed",
    "curated": "fingerprint of the curated images",
    "params": "fingerprint of the params",
}


class Param(NamedTuple):
    """A param with its default, which is empty where there is none or the value equals it."""

    name: str
    value: str
    default: str


def params_table(params: dict[str, dict]) -> list[Param]:
    """Return the params as rows of a table: dotted names, with values as YAML writes them."""
    rows = []
    for section, values in params.items():
        fields = {field.alias or name: field for name, field in schema(section).model_fields.items()}
        for name, value in values.items():
            default = fields[name].get_default(call_default_factory=True)
            shown = "" if default is PydanticUndefined or default == value else _yaml(default)
            flat = pd.json_normalize({f"{section}.{name}": value}).to_dict("records")[0] if value else {}
            rows += [Param(key, _yaml(item), shown) for key, item in (flat or {f"{section}.{name}": value}).items()]
    return rows


def provenance_table(raw: dict, embedding: dict) -> dict[str, str]:
    """Return the table of where the images come from, and of the metadata in the embedding's header."""
    facts = {"images from": " ".join(str(raw[key]) for key in ("source", "name", "version") if raw.get(key))}
    labels = {"licence": "license of the images", "content_sha256": "SHA-256 of the images"}
    facts |= {label: str(raw[key]) for key, label in labels.items() if raw.get(key)}
    facts |= {"SHA-256 of the embedding": embedding["sha256"]}
    metadata = dict(embedding["metadata"])
    try:
        versions = dict(json.loads(metadata.pop("versions", "{}")))
    except ValueError:
        versions = {}
    facts |= {label: metadata[key] for key, label in NAMES.items() if metadata.get(key)}
    facts |= {key.replace("_", " "): value for key, value in sorted(metadata.items()) if key not in NAMES}
    return facts | {f"version of {name}": str(version) for name, version in sorted(versions.items())}


def unused_images(
    manifest: list[dict[str, str]], used: set[str], folder: Path, thumbnail: Callable[[Path], str]
) -> list[dict[str, str]]:
    """Return the table of the images that were not chosen, those that were rejected first, at most MOST_FILES.

    Each has the `uri` of its thumbnail, which is empty if the file has no image.
    """
    others = [row for row in manifest if row["file"] not in used]
    shown = sorted(others, key=lambda row: (row["verdict"] == "keep", row["reason"], row["file"]))[:MOST_FILES]
    for row in shown:
        with reading(folder / row["file"], "filter"):
            row["uri"] = thumbnail(folder / row["file"]) if row["phash"] else ""
    return shown


def _yaml(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
