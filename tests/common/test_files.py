"""Atomic writes, fingerprints and locks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages import UserError
from stages.common.files import fingerprint, folder_atomic, write_atomic, write_json
from stages.common.locks import lock

HOLD = """
import sys, time
from pathlib import Path
from stages.common.locks import lock
with lock(Path(sys.argv[1]), "train"):
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


def test_fingerprint_depends_on_values_names_and_bytes(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = fingerprint({"x": 1}, folder)
    assert fingerprint({"x": 1}, folder) == first
    assert fingerprint({"x": 2}, folder) != first
    (folder / "a").rename(folder / "b")
    assert fingerprint({"x": 1}, folder) != first
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "link").symlink_to(folder)
    behind_link = fingerprint(tmp_path / "outer")
    (folder / "b").write_text("2")
    assert fingerprint(tmp_path / "outer") != behind_link, "files behind symbolic links count"


def test_interrupted_replacement_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At the moment of the swap the old folder is renamed, not deleted, and comes back if the new one cannot move."""
    with folder_atomic(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError("no")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no"), folder_atomic(tmp_path / "out") as folder:
        (folder / "b").write_text("2")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_lock_names_its_holder_and_ends_with_it(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"train is already running as process {other.pid}"),
            lock(tmp_path, "train"),
        ):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    time.sleep(0.1)
    with lock(tmp_path, "train"):
        assert (tmp_path / "pid").read_text() == str(os.getpid())
