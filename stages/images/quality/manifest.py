"""A class's folder => a manifest: every file a row, every row a verdict."""

import contextlib
import csv
import difflib
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from stages import UserError
from stages.images.quality.duplicates import group_duplicates
from stages.images.quality.outliers import PIECE, class_distances
from stages.images.quality.params import Filter
from stages.images.quality.row import COLOURS, WIDTH, Measurements, columns
from stages.images.quality.verdict import TERMS, reason, score, terms
from stages.images.quality.workers import inspect_all

if TYPE_CHECKING:
    from stages.images.quality.clip import Clip

COLUMNS = [
    *columns(Measurements("")),
    "class_distance",
    "group",
    *(f"q_{name}" for name in TERMS),
    "score",
    "verdict",
    "reason",
]
COUNTS = ("bytes", "width", "height", "frames", "exif_rotation", "jpeg_quality", "watermark_shapes")
NUMBERS = (
    *("sharpness", "blocking", "noise", "contrast", "border_plain", "border_flat", "subject_share", "frame_contact"),
    "class_distance",
)


def build_manifest(raw: Path, filter: Filter, workers: int, manifest: Path, features: Path) -> Counter:
    """raw/<Class>/* => `manifest` (CSV, a row a file, sorted by name) and `features` (.npy, a row a file).

    Rows and vectors go to disk as they come; what stays in memory is a hash and a few numbers a picture. => how many
    rows were rejected for which reason, and how many kept (""). Raises UserError where the class is not there or empty.
    """
    folder = class_folder(raw, filter.class_)
    files = sorted(_files(folder, raw), key=lambda file: os.fsencode(file[1]))
    if not files:
        raise UserError(f"{folder} is empty; put pictures there by dataset, or set filter.class to another.")
    clip = _clip(filter)
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as first_pass, _vectors(len(files)) as palettes:
        described = np.lib.format.open_memmap(
            features, "w+", np.float16, (len(files), WIDTH + (clip.width if clip else 0))
        )
        writer = csv.writer(first_pass, lineterminator="\n")
        found = _told(inspect_all(files, filter.max_megapixels, workers), "filter", len(files))
        worth, hashes = np.empty(len(files)), []
        for i, (row, vector) in zip(range(len(files)), found, strict=True):
            described[i, :WIDTH], palettes[i] = vector[:WIDTH], vector[WIDTH:]
            known = columns(row) | {"file": _printable(row.file), "class_distance": None}
            writer.writerow(known.values())
            worth[i] = _worth(known, filter)
            hashes.append(row.phash)
        group = group_duplicates(hashes, filter.duplicate_distance)
        usable = np.zeros(len(files), bool)
        usable[list(_best(worth, group).values())] = True
        if clip:
            _see(clip, files, hashes, described)
        apart = class_distances(described[:, WIDTH:] if clip else palettes, usable)
        if apart is not None:
            worth[apart > filter.max_class_distance] = np.nan
        if clip:
            _centre(described, usable)
        described.flush()
        best = {first: (i, _printable(files[i][1].rpartition("/")[2])) for first, i in _best(worth, group).items()}
        return _write(_rows(first_pass, apart), filter, group, best, manifest)


def _told(found: Iterator, what: str, count: int) -> Iterator:
    """The same, with a bar that says how far it is where somebody sees it."""
    if not sys.stderr.isatty():
        return found
    from tqdm import tqdm  # as long to import as to measure fifty pictures

    return tqdm(found, what, count, unit="picture")


def _clip(filter: Filter) -> "Clip | None":
    if filter.clip is None:
        return None
    from stages.images.quality.clip import Clip  # torch: seconds to import

    return Clip(filter.clip)


@contextlib.contextmanager
def _vectors(count: int) -> Iterator[np.ndarray]:
    """=> [count, COLOURS] float16 on disk, gone afterwards."""
    with tempfile.TemporaryFile() as file:
        yield np.memmap(file, np.float16, "w+", shape=(count, COLOURS))


def _see(clip: "Clip", files: list[tuple[str, str]], hashes: list[str], described: np.ndarray) -> None:
    """CLIP's features of all that is a picture (and has a hash) => `described`, beside what is there; zeros else."""
    seen = [i for i, text in enumerate(hashes) if text]
    found = clip.features(Path(files[i][0]) for i in seen)
    for i, feature in zip(seen, _told(found, "clip", len(seen)), strict=True):
        described[i, WIDTH:] = feature


def _centre(described: np.ndarray, usable: np.ndarray) -> None:
    """Features of a class [n, D], all of one direction more or less => what tells them apart, of length 1."""
    middle = np.mean(described[:, WIDTH:], axis=0, where=usable[:, None], dtype=np.float64) if usable.any() else 0
    for i in range(0, len(described), PIECE):
        half = described[i : i + PIECE, WIDTH:].astype(np.float32)
        blank = ~half.any(axis=1)
        half -= middle
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
        half[blank] = 0
        described[i : i + PIECE, WIDTH:] = half


def _write(rows: Iterator[dict], filter: Filter, group: list[int], best: dict, manifest: Path) -> Counter:
    """Rows with their groups and each group's best => `manifest`, whole or not at all => how many of each reason."""
    counts: Counter[str] = Counter()
    unfinished = manifest.with_name(f".{manifest.name}.tmp")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i, row in enumerate(rows):
            done = _whole(row | {"index": i, "group": group[i]}, filter, best.get(group[i], (i, "")))
            counts[done["reason"].split(":")[0].split(" of ")[0]] += 1
            writer.writerow([done[name] for name in COLUMNS])
    unfinished.replace(manifest)
    return counts


def class_folder(raw: Path, name: str) -> Path:
    """=> the class's folder. Raises UserError with the nearest class there is."""
    classes = sorted(path.name for path in raw.iterdir() if path.is_dir()) if raw.is_dir() else []
    if name in classes:
        return raw / name
    near = difflib.get_close_matches(name.casefold(), [c.casefold() for c in classes], n=3, cutoff=0.5)
    near = [c for wanted in near for c in classes if c.casefold() == wanted]
    said = "; ".join(f"{c} has {sum(1 for _ in (raw / c).iterdir())} pictures" for c in dict.fromkeys(near))
    known = f"{said}." if near else f"there are {len(classes)}, such as {', '.join(classes[:8]) or 'none'}."
    raise UserError(f"{raw} has no class {name}{'? ' if near else ': '}{known} Set filter.class.")


def _worth(row: dict, filter: Filter) -> float:
    """A row => what it is worth among copies of one picture; NaN where it is not usable.

    The original is the largest, for its sharpness, and least compressed.
    """
    if reason(row, filter):
        return math.nan
    detail = min(row["width"], row["height"]) * max(row["sharpness"], 0.01)
    return math.log2(detail) + 0.02 * (row["jpeg_quality"] or 100)


def _best(worth: np.ndarray, group: list[int]) -> dict[int, int]:
    """What rows are worth, and their groups of near duplicates => for each group the row to keep."""
    best: dict[int, int] = {}
    for i in np.flatnonzero(~np.isnan(worth)).tolist():
        if group[i] not in best or worth[i] > worth[best[group[i]]]:
            best[group[i]] = i
    return best


def _whole(row: dict, filter: Filter, best: tuple[int, str]) -> dict:
    """A row with its distance and group, and the best of its group (index, name) => all COLUMNS of it."""
    parts = terms(row, filter) if not row["problem"] else dict.fromkeys(TERMS, 0.0)
    why = reason(row, filter)
    if not why and best[0] != row["index"]:
        why = f"duplicate of {best[1]}"
    judged = {"score": score(parts), "verdict": "reject" if why else "keep", "reason": why}
    return {**row, **{f"q_{name}": value for name, value in parts.items()}, **judged}


def _rows(first_pass: TextIO, apart: np.ndarray | None) -> Iterator[dict]:
    """The first pass's rows from its beginning, numbers as numbers again, with distances to the class if known."""
    first_pass.seek(0)
    for i, cells in enumerate(csv.reader(first_pass)):
        row = dict(zip(COLUMNS, cells, strict=False))  # judged is a row later
        for name in NUMBERS:
            row[name] = float(row[name]) if row[name] else None
        for name in COUNTS:
            row[name] = int(row[name]) if row[name] else None
        if apart is not None and not row["problem"]:
            row["class_distance"] = float(f"{apart[i]:.2f}")
        yield row


def _files(folder: Path, raw: Path) -> Iterator[tuple[str, str]]:
    """A class's folder => (path, name in raw) of everything in it that is no folder."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), raw)
        else:
            yield entry.path, entry.path.removeprefix(f"{raw}{os.sep}")


def _printable(name: str) -> str:
    """A file's name => text that UTF-8 can hold (a name that was not has its bytes written out)."""
    return name.encode("utf-8", "backslashreplace").decode()
