"""Sets whose truth is known: what the filter rejects is unusable, what it keeps is usable, and the choice is clean."""

import csv
import functools
from pathlib import Path

import pandas as pd
import pytest

from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from stages.images.selection.choose import choose
from stages.images.selection.curate import curate, read
from stages.images.selection.params import Curate
from starter.world.attributes import NAME
from starter.world.dataset import Truth, build, truth

CLASSES = {NAME: 0, "Tidefin": 1, "Mossback": 2, "Duskhorn": 3}  # name => seed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four classes as sets from the net are, and what the filter says of each."""
    home = tmp_path_factory.mktemp("truth")
    for name, seed in CLASSES.items():
        build(home / "raw", name, seed)
        section = Filter(**{"class": name})
        build_manifest(home / "raw", section, 1, home / f"{name}.csv", home / f"{name}.npy")
    return home


known_truth = functools.cache(truth)  # which draws the pictures


def judged(home: Path, name: str) -> list[tuple[dict, Truth]]:
    """=> each row of a class's manifest, and what is true of it."""
    known = known_truth(name, CLASSES[name])
    with (home / f"{name}.csv").open(newline="") as file:
        return [(row, known[row["file"].partition("/")[2]]) for row in csv.DictReader(file)]


def test_what_is_rejected_is_unusable_and_what_is_unusable_is_rejected(home: Path):
    both = [pair for name in CLASSES for pair in judged(home, name)]
    rejected = [(row, known) for row, known in both if row["verdict"] == "reject"]
    right = [known for _, known in rejected if not known.usable]
    unusable = [known for _, known in both if not known.usable]
    wrong = [(row["file"], row["reason"], known.defect) for row, known in rejected if known.usable]
    missed = [(row["file"], known.defect) for row, known in both if row["verdict"] == "keep" and not known.usable]
    assert len(both) == 52 * len(CLASSES)
    assert len(right) / len(rejected) >= 0.95, wrong
    assert len(right) / len(unusable) >= 0.95, missed


@pytest.mark.parametrize(
    ("defect", "reasons"),
    [
        ("blurred", {"blurred"}),
        ("tiny", {"small"}),
        ("blocky", {"blocky"}),
        ("noisy", {"noisy"}),
        ("truncated", {"truncated"}),
        ("unreadable", {"not a picture"}),
    ],
)
def test_the_reason_is_the_defect(home: Path, defect: str, reasons: set[str]):
    found = {row["reason"] for name in CLASSES for row, known in judged(home, name) if known.defect == defect}
    assert found
    assert all(reason.startswith(tuple(reasons)) for reason in found), found


@pytest.mark.parametrize("name", CLASSES)
def test_the_seven_are_clean_and_of_six_poses_and_so_are_those_held_out(home: Path, name: str, tmp_path: Path):
    rows, features = read(home / f"{name}.csv", home / f"{name}.npy")
    index, _, _ = curate(home / "raw", rows, features, Curate(resolution=64), tmp_path / "curated")
    known = known_truth(name, CLASSES[name])
    chosen = [known[entry["source"].partition("/")[2]] for entry in index["train"]]
    held_out = [known[entry["source"].partition("/")[2]] for entry in index["holdout"]]
    assert [one.defect for one in chosen + held_out if not one.usable] == []
    assert len({one.pose for one in chosen}) >= 6


@pytest.mark.parametrize("name", CLASSES)
def test_a_wing_cut_at_the_frame_is_passed_over_where_others_are_whole(home: Path, name: str):
    rows, features = read(home / f"{name}.csv", home / f"{name}.npy")
    touching = pd.to_numeric(rows["frame_contact"]).loc[choose(rows, features, Curate()).train]
    assert touching.max() < 0.1
