"""Real trackers, offline, with their real files; and no tracker at all."""

import json
from pathlib import Path

import pytest
import wandb
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from PIL import Image

from stages.common.trackers import Trackers

PARAMS = {"train": {"steps": 3, "captions": None, "lr_scheduler": "cosine"}}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No API key and no earlier run, on any machine."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def trackers(names: list[str], folder: Path, resumed: bool = False) -> Trackers:
    AcceleratorState._reset_state(reset_partial_state=True)
    return Trackers(Accelerator(cpu=True, log_with=names or None), PARAMS, folder, "0123abcd", resumed)


def test_no_tracker_writes_nothing(tmp_path: Path):
    tracker = trackers([], tmp_path)
    tracker.log({"loss": 1.0}, 1)
    tracker.image("progress", Image.new("RGB", (8, 8)), 1)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_dvclive_has_curves_params_and_images_and_resumes(tmp_path: Path):
    tracker = trackers(["dvclive"], tmp_path)
    for step in (1, 2):
        tracker.log({"loss": 1 / step}, step)
    tracker.image("progress", Image.new("RGB", (8, 8), "red"), 2)
    tracker.close()
    tracker = trackers(["dvclive"], tmp_path, resumed=True)
    tracker.log({"loss": 0.25}, 3)
    tracker.close()
    live = tmp_path / "dvclive"
    rows = (live / "plots" / "metrics" / "loss.tsv").read_text().split("\n")
    assert [row.split("\t")[0] for row in rows if row] == ["step", "1", "2", "3"]
    assert json.loads((live / "metrics.json").read_text())["loss"] == 0.25
    assert "train.steps: 3" in (live / "params.yaml").read_text()
    assert (live / "plots" / "images" / "progress-000002.png").is_file()
    assert not (tmp_path / "dvc.yaml").exists(), "dvclive must not write DVC files"


def test_wandb_without_a_key_writes_an_offline_run(tmp_path: Path):
    tracker = trackers(["wandb"], tmp_path)
    tracker.log({"loss": 0.5}, 1)
    tracker.image("progress", Image.new("RGB", (8, 8), "red"), 1)
    tracker.close()
    wandb.teardown()  # as at the end of a process: what writes the file is done
    (file,) = tmp_path.rglob("run-0123abcd.wandb")
    assert file.parent.name.startswith("offline-run-")
    assert b"loss" in file.read_bytes()
    assert list(tmp_path.rglob("progress_1_*.png"))
