"""A class's folder => a manifest: every file a row, every row a verdict."""

import csv
import difflib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from stages import UserError
from stages.images.params import Filter
from stages.images.quality.duplicates import groups
from stages.images.quality.features import WIDTH
from stages.images.quality.inspect import Row, columns, inspect_all
from stages.images.quality.verdict import TERMS, reason, score, terms

COLUMNS = [*columns(Row("")), "class_distance", "group", *(f"q_{name}" for name in TERMS), "score", "verdict", "reason"]
COUNTS = ("bytes", "width", "height", "frames", "exif_rotation")
NUMBERS = ("sharpness", "blocking", "noise", "contrast", "border_plain", "subject_share", "touching")


def sift(raw: Path, filter: Filter, workers: int, manifest: Path, features: Path) -> Counter:
    """raw/<Class>/* => `manifest` (CSV, a row a file, sorted by name) and `features` ([rows, WIDTH] float16, .npy).

    Rows go to disk as they come; what stays in memory is a hash and three numbers a picture. => how many rows were
    rejected for which reason, and how many kept (""). Raises UserError where the class is not there.
    """
    folder = class_folder(raw, filter.class_)
    files = sorted(_files(folder, raw), key=lambda file: os.fsencode(file[1]))
    described = np.lib.format.open_memmap(features, "w+", np.float16, (len(files), WIDTH))
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as first_pass:
        writer = csv.DictWriter(first_pass, COLUMNS, lineterminator="\n", restval="")
        found = inspect_all(files, filter.max_megapixels, workers)
        for i, (row, numbers) in enumerate(tqdm(found, "filter", len(files), unit="picture", disable=None)):
            described[i] = numbers
            writer.writerow(columns(row) | {"file": _printable(row.file)})
        described.flush()
        group = groups([row["phash"] for row in _rows(first_pass)], filter.duplicate_distance)
        distances = [None] * len(files)
        judged = [_judge(row, distance, filter) for row, distance in zip(_rows(first_pass), distances, strict=True)]
        best = _best(judged, group, [name for _, name in files])
        counts: Counter[str] = Counter()
        unfinished = manifest.with_name(f".{manifest.name}.tmp")
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            for i, row in enumerate(_rows(first_pass)):
                known = row | {"index": i, "class_distance": distances[i], "group": group[i]}
                done = _whole(known, filter, best.get(group[i], (i, "")))
                counts[done["reason"].split(":")[0].split(" of ")[0]] += 1
                writer.writerow(done)
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


def _judge(row: dict, distance: float | None, filter: Filter) -> float:
    """A row => its score; below 0 where it is rejected for itself."""
    row["class_distance"] = distance
    return -1.0 if reason(row, filter) else score(terms(row, filter))


def _best(scores: list[float], group: list[int], names: list[str]) -> dict[int, tuple[int, str]]:
    """Scores and groups of near duplicates => for each group the row to keep, and its file's name."""
    best: dict[int, int] = {}
    for i, (one, first) in enumerate(zip(scores, group, strict=True)):
        if one >= 0 and (first not in best or one > scores[best[first]]):
            best[first] = i
    return {first: (i, names[i].rpartition("/")[2]) for first, i in best.items()}


def _whole(row: dict, filter: Filter, best: tuple[int, str]) -> dict:
    """A row with its distance and group, and the best of its group (index, name) => all COLUMNS of it."""
    parts = terms(row, filter) if not row["problem"] else dict.fromkeys(TERMS, 0.0)
    why = reason(row, filter)
    if not why and best[0] != row["index"]:
        why = f"duplicate of {_printable(best[1])}"
    judged = {"score": score(parts), "verdict": "reject" if why else "keep", "reason": why}
    return {**row, **{f"q_{name}": value for name, value in parts.items()}, **judged}


def _rows(first_pass: TextIO) -> Iterator[dict]:
    """The first pass's rows from its beginning, numbers as numbers again."""
    first_pass.seek(0)
    for row in csv.DictReader(first_pass, COLUMNS):
        for name in NUMBERS:
            row[name] = float(row[name]) if row[name] != "" else None
        for name in COUNTS:
            row[name] = int(row[name]) if row[name] != "" else None
        yield row


def _files(folder: Path, raw: Path) -> Iterator[tuple[str, str]]:
    """A class's folder => (path, name in raw) of everything in it that is no folder."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), raw)
        else:
            yield entry.path, Path(entry.path).relative_to(raw).as_posix()


def _printable(name: str) -> str:
    """A file's name => text that UTF-8 can hold (a name that was not has its bytes written out)."""
    return name.encode("utf-8", "backslashreplace").decode()
