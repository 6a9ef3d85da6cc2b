"""A server that is slow, and a disk that is full: the real ones, where this machine lets a test have them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import UserError
from stages.images.sources import transfer
from tests import project
from tests.closure import ROOT
from tests.images.archives import archive
from tests.images.conftest import SMALL, Setup, get


def test_a_slow_server_is_waited_for_as_long_as_something_comes(
    start: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "TIMEOUT_S", (15, 2))
    content = archive(8, 100)
    start(archives={1: content}, delay_s=3 / (len(content) >> 16))  # three seconds in all: more than the patience
    assert get(tmp_path)["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_server_slower_than_that_is_given_up_and_the_next_run_goes_on(
    start: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kaggle = start(delay_s=1.0)
    with monkeypatch.context() as hasty:
        hasty.setattr(transfer, "TIMEOUT_S", (15, 0.1))
        with pytest.raises(UserError, match="run again to go on"):
            get(tmp_path)
    assert not (tmp_path / "raw").exists()
    kaggle.delay_s = 0.0
    assert get(tmp_path)["sha256"] == hashlib.sha256(SMALL).hexdigest()


FULL = """
mount -t tmpfs -o size=16m none .scratch || exit 77
(until [ -s .scratch/download/*.zip ]; do sleep 0.02; done; exec cat /dev/zero > .scratch/other 2> /dev/null) &
python -m stages.download; echo "exit $?"; wait
rm .scratch/other
python -m stages.download; echo "exit $?"
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare to mount a small disk with")
def test_a_disk_that_fills_up_meanwhile_is_one_sentence_and_the_next_run_goes_on(start: Setup, tmp_path: Path):
    """A small disk of its own, mounted for these processes alone, which something else fills while pictures come."""
    content = archive(8, 100)
    kaggle = start(archives={1: content}, delay_s=0.2)
    for folder in (".scratch", "data"):
        (tmp_path / folder).mkdir()
    params = {"dataset": {"source": "kaggle", "kaggle": {"dataset": "someone/creatures"}}}
    project.write_params(tmp_path, project.SMALL | params)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no disk may be mounted here ({done.stderr.strip()})")
    said = done.stdout + done.stderr
    assert said.count("no space is left in .scratch/download; make room and run again, it goes on where it was") == 1
    assert "Traceback" not in said
    first, second = (int(line.removeprefix("exit ")) for line in done.stdout.splitlines() if line.startswith("exit "))
    assert (first, second) == (1, 0)
    assert [heard["range"] for kind, heard in kaggle.asked if "range" in heard], "it began anew"
    receipt = json.loads((tmp_path / "data" / "raw.json").read_text())
    assert receipt["sha256"] == hashlib.sha256(content).hexdigest()
