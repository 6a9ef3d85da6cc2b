"""Atomic writes and locks."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stages import UserError
from stages.common import locks
from stages.common.files import folder_atomic, write_atomic, write_json
from tests.closure import ROOT

HOLD = """
import time
from stages.common.locks import lock
with lock("train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(TypeError):
        write_atomic(path, None)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folder_is_replaced_only_when_complete(tmp_path: Path):
    with folder_atomic(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), folder_atomic(tmp_path / "out") as folder:
        (folder / "b").write_text("2")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]


def test_equal_values_give_equal_json(tmp_path: Path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": "é",\n  "b": 1\n}\n'


def test_interrupted_replacement_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At the moment of the swap the old folder is renamed, not deleted, and comes back if the new one cannot move."""
    with folder_atomic(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no"), folder_atomic(tmp_path / "out") as folder:
        (folder / "b").write_text("2")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_lock_names_its_holder_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "SECONDS", 0.1)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"train is already running as process {other.pid}"), locks.lock("train"):
            pass
        other.kill()
        other.wait()
    with locks.lock("train"):
        assert Path(".scratch/train.pid").read_text() == str(os.getpid())


WRITE = """
import os, signal
from pathlib import Path
from stages.common.files import folder_atomic, write_atomic
from stages.common.locks import lock
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
with lock("curate"), folder_atomic(Path("data/out")) as folder:
    (folder / "a").write_text("cut")
    write_atomic(Path("data/a.txt"), "cut")
"""


def test_kill_leaves_nothing_in_data_and_the_next_run_of_any_stage_removes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", WRITE], env=environment, check=False).returncode == -9
    assert not list(Path("data").iterdir())
    assert len(list(Path(".scratch/tmp").iterdir())) == 2
    with locks.lock("train"):
        assert list(Path(".scratch/tmp").iterdir()) == []
        with folder_atomic(Path("data/out")), locks.lock("filter"):
            assert len(list(Path(".scratch/tmp").iterdir())) == 1, "the files of a stage that runs beside it stay"


def test_leftovers_on_another_file_system_are_replaced(tmp_path: Path):
    """There, a rename from the project is not possible, so the temporary folder is beside the out."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mounted:
        for name in (".out.tmp", ".a.txt.tmp"):
            (Path(mounted) / name).mkdir()
        with folder_atomic(Path(mounted) / "out") as folder:
            assert folder.is_relative_to(mounted)
            (folder / "b").write_text("2")
        write_atomic(Path(mounted) / "a.txt", "1")
        assert sorted(path.name for path in Path(mounted).rglob("*")) == ["a.txt", "b", "out"]
