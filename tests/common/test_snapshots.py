"""Snapshots: their file names and the choice of some."""

from pathlib import Path

import pytest

from stages import UserError
from stages.common.snapshots import choose_snapshots, snapshot_name, step_of


def test_step_is_in_the_name():
    assert snapshot_name(80) == "step-000080.safetensors"
    assert step_of(Path("folder", snapshot_name(1_234_567))) == 1_234_567


@pytest.mark.parametrize(
    ("count", "steps"),
    [
        (0, []),
        (1, [1000]),
        (2, [500, 1000]),
        (3, [400, 700, 1000]),
        (4, [300, 500, 800, 1000]),
        (99, range(100, 1001, 100)),
    ],
)
def test_snapshots_are_chosen_at_equal_distances(tmp_path: Path, count: int, steps: list[int]):
    for step in range(100, 1001, 100):
        (tmp_path / snapshot_name(step)).touch()
    assert [file.name for file in choose_snapshots(tmp_path, count)] == [f"step-{n:06d}.safetensors" for n in steps]


def test_snapshots_that_do_not_exist(tmp_path: Path):
    assert choose_snapshots(tmp_path / "nowhere", 0) == ()
    with pytest.raises(UserError, match=r"has no snapshots; set `train.snapshot_every` to less than `train.steps`"):
        choose_snapshots(tmp_path / "nowhere", 1)
