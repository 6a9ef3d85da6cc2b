"""Fingerprints and checksums."""

import os
import subprocess
from pathlib import Path

from stages.common.hashing import fingerprint, unlisted_files, write_checksums


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


def test_unlisted_files_are_those_that_were_added_changed_or_linked(tmp_path: Path):
    folder = tmp_path / "raw"
    (folder / "Cat").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "Cat" / name).write_text(name)
    write_checksums(folder)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert unlisted_files(folder) == []
    assert unlisted_files(tmp_path / "missing") == []
    (folder / "Cat" / "b").write_text("changed")
    (folder / "Cat" / "c").write_text("added")
    (folder / "Cat" / ".DS_Store").write_text("of the file manager")
    (folder / "Dog").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert [str(path.relative_to(folder)) for path in unlisted_files(folder)] == ["Cat/b", "Cat/c", "Dog", "pipe"]
    (folder / "SHA256SUMS").unlink()
    assert folder / "Cat" / "a" in unlisted_files(folder)
