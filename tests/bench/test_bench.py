"""Every benchmark explains itself, and the one of the starter runs with the smallest settings."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.closure import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text())


def run_script(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"bench.{name}", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_describes_the_script_and_its_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", [f"bench/{name}.py", "--help"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert text.startswith("usage:")
    assert f"bench.{name}" in text


@pytest.mark.slow
def test_starter_benchmark_prints_the_machine_and_every_measurement():
    settings = ("--vae-images", "1", "--classifier-images", "1", "--prompts", "1", "--steps", "2", "--table", "0")
    lines = run_script("starter", *settings).splitlines()
    assert "torch" in lines[0]
    assert "cores" in lines[0]
    assert any(line.startswith("size: all weights 39.1 MB") for line in lines)
    assert any(line.startswith("vae: mean PSNR") for line in lines)
    assert sum(line.startswith("classifier: ") and line.endswith("of 1 unseen drawings") for line in lines) == 10
    assert lines[-1].startswith("| 1 | ddim | 2 | 4.0 | ")


def test_pixels_of_all_processes_are_compared_with_those_of_one(tmp_path: Path, capsys: pytest.CaptureFixture):
    from bench.render import compare  # not at the top, because another test runs this module as a program

    np.savez(tmp_path / "ours.1.0", a=np.uint8([[0, 10]]), b=np.uint8([[20, 30]]))
    np.savez(tmp_path / "ours.2.0", a=np.uint8([[4, 10]]))
    np.savez(tmp_path / "ours.2.1", b=np.uint8([[20, 26]]))
    compare(tmp_path)
    assert capsys.readouterr().out == "ours, 2 GPU: 2.000 levels from ours on average, at most 4\n"
