"""A rerun has the hashes of dvc.lock, or the first stage that differs is named with a cause."""

from pathlib import Path

import pytest

from stages.comparison import verify
from tests import project

LOCK = {
    "train": {"deps": {"stages/train.py": "a"}, "params": {}, "outs": {"data/embedding": "b", "data/loss.csv": "c"}},
    "render": {"deps": {"data/embedding": "b"}, "params": {}, "outs": {"data/grid.png": "d"}},
}


def test_first_difference_is_the_first_stage_of_the_pipeline():
    assert verify.first_difference(LOCK, LOCK) is None
    other = {"train": LOCK["train"], "render": LOCK["render"] | {"outs": {"data/grid.png": "e"}}}
    assert verify.first_difference(LOCK, other) == "render"
    assert verify.first_difference({"render": LOCK["render"]}, LOCK) == "train"


@pytest.mark.parametrize(
    ("versions", "deps", "cause"),
    [
        ("numpy==0.1\n", {"stages/train.py": "a"}, "numpy is 2"),
        ("gone==1\n", {"stages/train.py": "a"}, "gone is not installed, not 1"),
        ("# none\n", {"stages/train.py": "x"}, "stages/train.py changed after dvc.lock was written"),
        ("# none\n", {"stages/train.py": "a"}, "rounding on this machine"),
    ],
)
def test_causes(repository: Path, versions: str, deps: dict, cause: str):
    (repository / "versions.txt").write_text(versions)
    (found,) = verify.find_causes(LOCK["train"], LOCK["train"] | {"deps": deps}, repository)
    assert cause in found


@pytest.mark.slow
def test_verify_reruns_the_commit_and_names_the_stage_that_differs(tmp_path: Path):
    folder = project.create(tmp_path / "project")
    project.repro(folder)
    project.commit(folder, "run")
    command = ("python", "-m", "stages.comparison.verify")
    assert "outs of 7 stages have the hashes of dvc.lock" in project.run(folder, *command)
    lock, md5 = folder / "dvc.lock", project.hashes(folder)["data/loss.csv"]
    lock.write_text(lock.read_text().replace(md5, md5[::-1]))
    project.commit(folder, "another hash")
    printed = project.run(folder, *command, ok=False)
    last = printed.strip().splitlines()[-1]
    assert last.startswith("verify: stage train is the first that differs, in data/loss.csv: code, data, params and"), (
        last
    )
    assert project.git(folder, "status", "--porcelain") == ""
