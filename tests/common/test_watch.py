"""Files that DVC has not written to their end, because it was killed, do not stop the next run."""

import subprocess
from pathlib import Path

import pytest

from stages.common.watch import ENDS, remove_cut_files

PIPELINE = "stages: {write: {cmd: echo 1 >> runs && cp in out, deps: [in], outs: [out]}}\n"


def reproduce() -> subprocess.CompletedProcess:
    return subprocess.run(["dvc", "repro"], capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "in").write_text("content")
    assert reproduce().returncode == 0
    return tmp_path


def test_whole_files_stay(project: Path):
    assert all(file.is_file() for file in ENDS)
    assert remove_cut_files() == []


def test_dvc_runs_again_from_its_cache_after_its_files_were_cut(project: Path):
    lock = Path("dvc.lock").read_bytes()
    for file in ENDS:
        file.write_bytes(b"")
    (project / "out").unlink()
    assert reproduce().returncode != 0
    assert remove_cut_files() == list(ENDS)
    assert reproduce().returncode == 0
    assert Path("dvc.lock").read_bytes() == lock
    assert (project / "runs").read_text() == "1\n"


def test_a_file_that_is_cut_in_its_middle_is_removed(project: Path):
    Path("dvc.lock").write_bytes(Path("dvc.lock").read_bytes()[:-5])
    assert remove_cut_files() == [Path("dvc.lock")]
