"""Outs that were changed by hand between two stages."""

import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from stages.common.read_outs import CuratedIndex, RendersIndex, read_csv, read_embedding, read_image, read_json
from stages.images.selection.curate import read_manifest
from stages.reporting.inputs import Metrics, NamedIndex, NamedRenders, TrainMetrics
from tests.hostile.bounds import accepted

ROW = {"file": "train/00.png", "source": "Cat/a.png"}
RENDER = {"file": "a/word-0.png", "prompt": "a", "subject": "word", "seed": 0, "text": "a <x>"}
CURATED = {"class": "Cat", "train": [ROW], "holdout": [ROW]}
RENDERS = {"subjects": {"word": "<x>", "initializer": "cat"}, "cells": [RENDER, RENDER | {"subject": "initializer"}]}
TRAIN = {"learned": True, "test_fall_percent": 1.5, "test_fall_stderr_percent": 0.5, "best_step": 1, "steps_run": 2}
METRICS = {"closer_to_real": True}
KINDS = [
    (CuratedIndex, CURATED),
    (NamedIndex, CURATED),
    (RendersIndex, RENDERS),
    (NamedRenders, RENDERS),
    (TrainMetrics, TRAIN | {"stopped_early": False, "start": "a", "nearest_words_start": "b", "nearest_words": "c"}),
    (Metrics, METRICS),
]
SEEDS = 12
JUNK = [None, [], {}, "x", [[]], [None], {"file": 1}, float("nan"), "1e999", [{}]]
BYTES = [b"", b"{}", b"[]", b"null", b"1", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b"\0" * 99, b"9" * 5000]
TABLES = [b"", b"\n", b"step,loss\n", b"step,loss\n1\n", b"step,loss\n1,2,3\n", b"step,loss\n1,x\n",
          b"step,loss\n1,nan\n",
          b"step,loss\n1,inf\n", b"loss\n1\n", b"\xff\xfe", b'step,loss\n"1,2\n', b"\0,\0\n1,2\n",
          b"step,loss\n" + b"1" * 200_000 + b",2\n"]  # fmt: skip
TENSORS = {
    "none": {},
    "two": {"a": np.ones((1, 4), np.float32), "b": np.ones((1, 4), np.float32)},
    "no vectors": {"a": np.ones((0, 4), np.float32)},
    "no width": {"a": np.ones((1, 0), np.float32)},
    "one axis": {"a": np.ones(4, np.float32)},
    "three axes": {"a": np.ones((1, 1, 4), np.float32)},
    "scalar": {"a": np.ones((), np.float32)},
    "nan": {"a": np.full((1, 4), np.nan, np.float32)},
}
HEADERS = [
    b"",
    b"\xff" * 8,
    b"\x10" + bytes(7) + b"not a header!!!!",
    (2).to_bytes(8, "little") + b"[]",
    save({"a": np.ones(9)})[:-9],
]
MANIFEST = "file,sha256,phash,verdict,reason,detail,q_a,score,group\nCat/a.png,ab,cd,keep,,,1,0.5,0\n"
ARRAYS = [np.ones(1), np.ones((2, 3)), np.float64(1), np.ones((1, 2, 3)), np.array(["x"])]


def change(value: dict, seed: int) -> dict:
    """Remove or replace one field that is there, at any depth."""
    rng, value = random.Random(seed), json.loads(json.dumps(value))
    at = value
    while True:
        key = rng.choice(sorted(at)) if isinstance(at, dict) else rng.randrange(len(at))
        if isinstance(at[key], dict | list) and rng.random() < 0.6:
            at = at[key]
        elif rng.random() < 0.3:
            del at[key]
            return value
        else:
            at[key] = rng.choice([item for item in JUNK if not isinstance(item, type(at[key]))])
            return value


@pytest.mark.parametrize(("kind", "value"), KINDS, ids=lambda item: getattr(item, "__name__", ""))
def test_json_without_its_fields(kind: type, value: dict, tmp_path: Path):
    path = tmp_path / "index.json"
    path.write_text(json.dumps(value))
    assert accepted(lambda: read_json(path, "train", kind))
    for content in BYTES:
        path.write_bytes(content)
        assert not accepted(lambda: read_json(path, "train", kind)), content[:20]
    refused = 0
    for seed in range(SEEDS):
        path.write_text(json.dumps(change(value, seed)))
        refused += not accepted(lambda: read_json(path, "train", kind))
    assert refused > 6  # the others are fields that this reader does not use


@pytest.mark.parametrize("content", TABLES, ids=range(len(TABLES)))
def test_csv_without_numbers(content: bytes, tmp_path: Path):
    (tmp_path / "loss.csv").write_bytes(content)
    assert not accepted(lambda: read_csv(tmp_path / "loss.csv", "train", {"step": float, "loss": float}))


@pytest.mark.parametrize("content", [*(save(tensors) for tensors in TENSORS.values()), *HEADERS], ids=range(13))
def test_embedding_that_is_none(content: bytes, tmp_path: Path):
    (tmp_path / "e.safetensors").write_bytes(content)
    assert not accepted(lambda: read_embedding(tmp_path / "e.safetensors"))


@pytest.mark.parametrize(
    "read", [read_embedding, partial(read_image, stage="render"), partial(read_json, stage="train")]
)
def test_folders_and_devices_are_no_files(read: partial, tmp_path: Path):
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "nowhere"):
        assert not accepted(lambda path=path: read(path))


@pytest.mark.parametrize("array", ARRAYS, ids=range(5))
def test_features_that_do_not_fit_the_manifest(array: np.ndarray, tmp_path: Path):
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    np.save(tmp_path / "features.npy", np.ones((1, 3)))
    assert accepted(lambda: read_manifest(tmp_path / "manifest.csv", tmp_path / "features.npy"))
    np.save(tmp_path / "features.npy", array)
    assert not accepted(lambda: read_manifest(tmp_path / "manifest.csv", tmp_path / "features.npy"))
