"""Real trackers, offline, whose files are read back by their own readers; and no tracker at all."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterable
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import wandb
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from dvclive.utils import parse_tsv
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from stages import UserError
from stages.common.runtime import Runtime
from stages.common.trackers import TrackedRun, Trackers, accelerator_options, publish

PARAMS = {"train": {"steps": 3, "captions": None, "lr_scheduler": "cosine"}}
METRICS = {"test_fall_percent": 23.5, "best_step": 2, "learned": True, "start": "dragon"}
RED = Image.new("RGB", (8, 8), "red")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No API key and no earlier run, on any machine."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    wandb.teardown()
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def trackers(*names: str, resumed: int | None = None) -> Trackers:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, **accelerator_options(list(names), Path(), "0123abcd"))
    return Trackers(accelerator, PARAMS, Path(), "0123abcd", resumed)


def track(*names: str) -> None:
    """Track a run of three steps that is resumed at step 2, where it had been at step 3 already."""
    tracker = trackers(*names)
    for step, loss in ((1, 1.0), (2, 0.5), (3, 9.0)):
        tracker.log({"loss": loss}, step)
    tracker.image("progress", RED, 2)
    tracker.close()
    tracker = trackers(*names, resumed=2)
    tracker.log({"loss": 0.25}, 3)
    tracker.metrics(METRICS)
    tracker.close()


def test_no_tracker_writes_nothing(tmp_path: Path):
    track()
    assert list(tmp_path.iterdir()) == []


def test_dvclive_has_curves_params_images_and_metrics_and_resumes(tmp_path: Path):
    track("dvclive")
    live = tmp_path / "dvclive"
    rows = parse_tsv(live / "plots" / "metrics" / "loss.tsv")
    assert [(row["step"], float(row["loss"])) for row in rows] == [("1", 1.0), ("2", 0.5), ("3", 9.0), ("3", 0.25)]
    assert json.loads((live / "metrics.json").read_text()) == {"loss": 0.25, "step": 3} | METRICS
    assert "train.steps: 3" in (live / "params.yaml").read_text()
    assert Image.open(live / "plots" / "images" / "progress-000002.png").convert("RGB") == RED
    assert not (tmp_path / "dvc.yaml").exists(), "dvclive must not write DVC files"


def read_events() -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator("tensorboard/0123abcd/oneword").Reload()


def test_tensorboard_has_curves_images_and_metrics_and_resumes(tmp_path: Path):
    pytest.importorskip("tensorboard")
    track("tensorboard")
    events = read_events()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert [events.Scalars(f"metrics/{name}")[0].value for name in list(METRICS)[:3]] == [23.5, 2.0, 1.0]
    assert "metrics/start/text_summary" in events.Tags()["tensors"]
    (image,) = events.Images("progress")
    (tmp_path / "image.png").write_bytes(image.encoded_image_string)
    assert (image.step, Image.open("image.png").convert("RGB")) == (2, RED)


def values(items: Iterable) -> dict[str, object]:
    """Return the names and values of a record."""
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def wandb_records(file: Path) -> dict[str, list]:
    """Return the records of a run by kind, from blocks of 32 KiB after a header of 7 bytes, as LevelDB logs them."""
    data, position, content, records = file.read_bytes(), 7, b"", defaultdict(list)
    while position + 7 <= len(data):
        _, length, part = struct.unpack("<IHB", data[position : position + 7])
        if part == 0:  # padding at the end of a block
            position += 32768 - position % 32768
            continue
        content += data[position + 7 : position + 7 + length]
        position += 7 + length
        if part in (1, 4):  # complete, or the last part of several
            record, content = Record.FromString(content), b""
            kind = record.WhichOneof("record_type")
            records[kind].append(getattr(record, kind))
    return records


def test_wandb_without_a_key_writes_a_complete_offline_run(tmp_path: Path, capfd: pytest.CaptureFixture):
    tracker = trackers("wandb")
    (location,) = tracker.locations()
    for step in (1, 2):
        tracker.log({"loss": 1 / step}, step)
    tracker.image("progress", RED, 2)
    tracker.metrics(METRICS)
    tracker.close()
    wandb.teardown()  # as at the end of a process: what writes the file is done
    (file,) = tmp_path.rglob("run-0123abcd.wandb")
    assert location == "`wandb sync wandb/offline-run-*-0123abcd` uploads the run"
    assert file.parent.name.startswith("offline-run-")
    records = wandb_records(file)
    rows = [values(row.item) for row in records["history"]]
    assert [(row["_step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 0.5)]
    assert values(item for row in records["summary"] for item in row.update).items() >= METRICS.items()
    assert values(item for row in records["config"] for item in row.update)["train.steps"] == 3
    assert [record.exit_code for record in records["exit"]] == [0]
    (image,) = tmp_path.rglob("progress_2_*.png")
    assert Image.open(image).convert("RGB") == RED
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_results_of_later_stages_join_the_run_of_their_embedding(name: str, tmp_path: Path):
    pytest.importorskip(name)
    tracker, embedding, grid = trackers(name), tmp_path / "embedding", tmp_path / "grid.png"
    tracker.log({"loss": 0.5}, 3)
    tracker.close()
    embedding.write_text("a")
    RED.save(grid)
    TrackedRun("0123abcd", 3).remember(Path(), embedding)
    assert publish(["dvclive"], Path(), embedding, grid=grid) is None
    assert publish([name], Path(), grid, grid=grid) is None, "of another run"
    run = publish([name], Path(), embedding, grid=grid)
    run.remember(Path(), grid)
    publish([name], Path(), grid, metrics={"image_similarity_word": 0.9, "chosen": "step-000120.safetensors"})
    if name == "tensorboard":
        events = read_events()
        assert events.Scalars("metrics/image_similarity_word")[0].value == pytest.approx(0.9)
        (chosen,) = events.Tensors("metrics/chosen/text_summary")[0].tensor_proto.string_val
        assert chosen == b"step-000120.safetensors"
        assert (events.Scalars("loss")[0].step, events.Images("grid")[0].step) == (3, 3)
    else:
        wandb.teardown()
        runs = [wandb_records(file) for file in tmp_path.rglob("run-0123abcd.wandb")]
        rows = [values(row.item) for run in runs for row in run["history"]]
        assert [(row["_step"], row["grid._type"]) for row in rows if "loss" not in row] == [(3, "image-file")]
        summary = values(item for run in runs for row in run["summary"] for item in row.update)
        assert (len(runs), summary["image_similarity_word"]) == (3, 0.9)
        assert summary["chosen"] == "step-000120.safetensors"


def test_wandb_mode_is_left_to_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    trackers("wandb").close()
    assert not list(tmp_path.rglob("*.wandb"))


def test_tracker_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"has tensorboard, which is not installed; run `pip install -e"):
        accelerator_options(Runtime(trackers=["tensorboard"]).trackers, Path(), "0123abcd")
