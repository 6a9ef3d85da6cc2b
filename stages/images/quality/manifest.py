"""Measure and judge every file of a class: the manifest and the features."""

import difflib
import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages import UserError
from stages.common.workers import map_in_workers
from stages.images.quality.duplicates import best_copies, group_duplicates
from stages.images.quality.features import WIDTH
from stages.images.quality.measure_file import measure_file, unreadable_file
from stages.images.quality.outliers import class_distances, nearest_classes
from stages.images.quality.params import Filter
from stages.images.quality.verdict import quality, reject

OF_OTHERS = 8  # images of each other class that CLIP compares with


def build_manifest(raw: Path, params: Filter, workers: int, measure=measure_file) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a row for every file of the class, sorted by name, and its features [files, D] float16.

    Raises UserError if the class does not exist or is empty.
    """
    names = _file_names(_class_folder(raw, params.class_), raw)
    if not names:
        raise UserError(f"{raw / params.class_} is empty; put images there by dataset, or choose another filter.class.")
    task = partial(measure, raw=raw, max_megapixels=params.max_megapixels)
    others = _other_classes(raw, params.class_) if params.clip else []
    results = map_in_workers(task, unreadable_file, names + others, workers, preload=__name__)
    measured = dict(tqdm(results, "filter", len(names + others), unit="image", disable=None))
    rows, features = zip(*(measured[name] for name in names), strict=True)
    features, vectors = np.split(np.stack(features), [WIDTH], axis=1)
    hashes = [(row["phash"], row["fine_phash"], row["mirror_phash"]) for row in rows]
    groups = group_duplicates(hashes, params.duplicate_distance)
    for row, group in zip(rows, groups, strict=True):
        row |= {"class_distance": None, "nearest_class": None, "group": group}
    best = best_copies(rows, params)
    unique = np.array([best.get(row["group"]) is row for row in rows])
    if params.clip:
        from stages.images.quality.clip import center, clip_embeddings  # importing torch takes seconds

        files = [raw / name if measured[name][0]["phash"] else None for name in names + others]
        vectors = clip_embeddings(params.clip, files)
        usable = np.append(unique, [file is not None for file in files[len(names) :]]).astype(bool)
        nearest = nearest_classes(vectors, [name.partition("/")[0] for name in names + others], usable)
        for row, class_ in zip(rows, nearest, strict=False):
            row["nearest_class"] = class_
        vectors = vectors[: len(names)]
        features = np.concatenate([features, center(vectors, unique)], axis=1)
    for row, distance in zip(rows, class_distances(vectors, unique), strict=True):
        row["class_distance"] = distance if row["phash"] else None
    best = best_copies(rows, params)
    for row in rows:
        reason, detail = reject(row, params)
        if not reason and best[row["group"]] is not row:
            reason, detail = "duplicate", f"of {Path(best[row['group']]['file']).name}"
        del row["reason"], row["detail"]  # so that they are the last columns
        row.update(quality(row, params), verdict="reject" if reason else "keep", reason=reason, detail=detail)
    return pd.DataFrame(rows, dtype=object), features.astype(np.float16)  # object: integers may have gaps


def _class_folder(raw: Path, name: str) -> Path:
    classes = sorted(path.name for path in raw.iterdir() if path.is_dir()) if raw.is_dir() else []
    if name in classes:
        return raw / name
    near = [other for other in classes if difflib.get_close_matches(name.casefold(), [other.casefold()], cutoff=0.5)]
    hint = "; ".join(f"{other} has {len(list((raw / other).iterdir()))} images" for other in near[:3])
    hint = f"? {hint}" if near else f": there are {len(classes)}, such as {', '.join(classes[:8]) or 'none'}"
    raise UserError(f"{raw} has no class {name}{hint}. Set filter.class.")


def _other_classes(raw: Path, name: str) -> list[str]:
    """Return evenly spaced files of the classes that are not in the manifest, as paths relative to `raw`."""
    names = [_file_names(path, raw) for path in sorted(raw.iterdir()) if path.is_dir() and path.name != name]
    return [file for files in names for file in files[:: len(files) // (OF_OTHERS + 1) + 1]]


def _file_names(folder: Path, raw: Path) -> list[str]:
    """List a folder's files for the manifest, without captions, as paths relative to `raw`, sorted by their bytes."""
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    files = [path for path in files if path.suffix != ".txt" or not path.with_suffix("").is_file()]
    return sorted((str(path.relative_to(raw)) for path in files), key=os.fsencode)
