"""Drawn classes with known truth: the filter rejects what is unusable, and the choice is clean and varied."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from stages.images.selection.choose import choose
from stages.images.selection.params import Curate
from starter.world.attributes import NAME
from starter.world.dataset import build, truth

CLASSES = {NAME: 0, "Tidefin": 1, "Mossback": 2, "Duskhorn": 3}  # name: seed
REASONS = {"blurred": "blurred", "tiny": "too-small", "blocky": "jpeg-artifacts", "noisy": "noisy"}
REASONS |= {"truncated": "truncated", "unreadable": "not-an-image"}  # defect: reason


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[pd.DataFrame, np.ndarray, Path]]:
    """The manifest and the features of each class, with the truth in the columns usable, defect and pose; and `raw`."""
    raw, results = tmp_path_factory.mktemp("truth"), {}
    for name, seed in CLASSES.items():
        build(raw, name, seed)
        manifest, features = build_manifest(raw, Filter(**{"class": name}), 1)
        facts = {f"{name}/{file}": vars(fact) for file, fact in truth(name, seed).items()}
        columns = pd.DataFrame([facts[file] for file in manifest["file"]])[["usable", "defect", "pose"]]
        results[name] = manifest.astype({"score": float}).join(columns), features, raw
    return results


def test_precision_recall_and_reasons(manifests: dict):
    table = pd.concat([table for table, *_ in manifests.values()])
    rejected = table["verdict"] == "reject"
    assert len(table) == 52 * len(CLASSES)
    assert (~table["usable"][rejected]).mean() >= 0.95, table[rejected & table["usable"]]
    assert rejected[~table["usable"]].mean() >= 0.95, table[~rejected & ~table["usable"]]
    for defect, reason in REASONS.items():
        assert set(table["reason"][table["defect"] == defect]) == {reason}


@pytest.mark.parametrize("name", CLASSES)
def test_choice_is_clean_varied_and_not_cut_off(manifests: dict, name: str):
    manifest, features, raw = manifests[name]
    table = choose(manifest, features, Curate(), raw)
    train = table[table["part"] == "train"]
    assert table["usable"][table["part"].isin(["train", "holdout"])].all()
    assert train["pose"].nunique() >= 6
    assert train["frame_contact"].max() < 0.1
