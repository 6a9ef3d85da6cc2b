"""The stage itself: killed, stopped, starved and launched many times, it ends with the same bytes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.closure import ROOT
from tests.inversion.stage_process import checkpoints, finish, outs, project, start, wait_for, whole


@pytest.fixture(scope="module")
def straight(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose training nobody disturbed."""
    place = project(tmp_path_factory.mktemp("straight") / "project", folder)
    code, said = whole(place)
    assert code == 0, said
    assert "train: learnt: the objective fell by" in said
    return place


def test_the_outs_are_all_there_and_the_scratch_is_gone(straight: Path):
    assert sorted(outs(straight)) == [
        "data/embedding/learned_embeds.safetensors",
        "data/embedding/progress/step-000000.png",
        "data/embedding/progress/step-000010.png",
        "data/embedding/progress/step-000020.png",
        "data/embedding/progress/step-000030.png",
        "data/embedding/snapshots/step-000015.safetensors",
        "data/embedding/snapshots/step-000030.safetensors",
        "data/loss.csv",
        "data/validation.csv",
        "data/train.json",
    ]
    assert list((straight / ".scratch" / "train").iterdir()) == []
    assert json.loads((straight / "data" / "train.json").read_text())["steps_run"] == 30
    assert len((straight / "data" / "loss.csv").read_text().splitlines()) == 31


def test_again_elsewhere_and_later_gives_the_same_bytes_which_name_no_place(
    straight: Path, folder: Path, tmp_path: Path
):
    there = project(tmp_path / "another name", folder)
    assert whole(there)[0] == 0
    assert outs(there) == outs(straight)
    for path in (there / "data").rglob("*"):
        if path.is_file() and "curated" not in path.parts:
            content = path.read_bytes()
            assert str(tmp_path).encode() not in content
            assert str(ROOT).encode() not in content
            assert socket.gethostname().encode() not in content
            assert time.strftime("%Y-%m-%d").encode() not in content


def test_killed_at_random_moments_while_saving_too_it_ends_with_the_same_bytes(
    straight: Path, folder: Path, tmp_path: Path
):
    """Three kills of one run; `bench/kill.py` does many. A seed of the clock: each run of the tests tries others."""
    place, steps = project(tmp_path / "p", folder), sorted(random.Random().sample(range(20), 3))
    for step, saving in zip(steps, (False, True, False), strict=True):
        process = start(place)
        wait_for(process, place, step, saving)
        process.kill()
        code, said = finish(process, place)
        assert code == -signal.SIGKILL, f"killed at steps {steps}\n{said}"
    code, said = whole(place)
    assert code == 0, said
    assert outs(place) == outs(straight), f"killed at steps {steps}"
    assert not list((place / ".scratch").rglob("*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_asked_to_stop_it_saves_says_so_and_goes_on(straight: Path, folder: Path, tmp_path: Path, number: int):
    place = project(tmp_path / "p", folder)
    process = start(place)
    wait_for(process, place, 3)
    os.kill(process.pid, number)
    code, said = finish(process, place)
    assert code == 128 + number
    assert "train: stopped at step " in said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert f"stopped at step {int(checkpoints(place)[-1].stem.split('-')[1])} and saved" in said
    assert whole(place)[0] == 0
    assert outs(place) == outs(straight)


def test_a_damaged_checkpoint_is_dropped_for_the_one_before(straight: Path, folder: Path, tmp_path: Path):
    place = project(tmp_path / "p", folder)
    process = start(place)
    wait_for(process, place, 5)
    process.kill()
    finish(process, place)
    newest = checkpoints(place)[-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    code, said = whole(place)
    assert code == 0
    assert f"checkpoint {newest.name} is damaged or of another run and was dropped" in said
    assert outs(place) == outs(straight)


def test_on_a_full_disk_it_says_so_and_goes_on_when_there_is_room(folder: Path, tmp_path: Path):
    """No file may grow past some bytes: a checkpoint does, as its curves get longer, some steps after the first."""
    place = project(tmp_path / "p", folder, progress_every=0)
    process = start(place)
    wait_for(process, place, 2)
    process.kill()
    finish(process, place)
    saved = checkpoints(place)[-1]
    code, said = whole(place, file_limit=saved.stat().st_size + 40)
    assert code == 1
    assert "Traceback" not in said
    assert "train: File too large: .scratch/train/" in said
    assert "; make room or allow writing there, and run again." in said
    assert not list(place.rglob("*.tmp"))
    assert not (place / "data" / "embedding").exists()
    assert int(checkpoints(place)[-1].stem.split("-")[1]) >= int(saved.stem.split("-")[1])
    assert whole(place)[0] == 0
    fresh = project(tmp_path / "q", folder, progress_every=0)
    assert whole(fresh)[0] == 0
    assert outs(place) == outs(fresh)


def test_where_nothing_may_be_written_it_says_so(folder: Path, tmp_path: Path):
    """A file stands where a folder has to be, which stops root too."""
    place = project(tmp_path / "p", folder)
    (place / ".scratch").write_text("")
    code, said = whole(place)
    assert code == 1
    assert "Traceback" not in said
    assert "train: " in said
    assert ".scratch" in said


def test_a_second_run_says_who_has_the_first(folder: Path, tmp_path: Path):
    place = project(tmp_path / "p", folder, steps=1000)
    process = start(place)
    wait_for(process, place, 2)
    code, said = finish(start(place, log="second"), place, "second")
    process.kill()
    finish(process, place)
    assert code == 1
    assert f"training already runs as process {process.pid}" in said


def test_another_seed_or_picture_never_takes_up_an_old_checkpoint(folder: Path, tmp_path: Path):
    place = project(tmp_path / "p", folder)
    process = start(place)
    wait_for(process, place, 5)
    process.kill()
    finish(process, place)
    params = json.loads((place / "params.yaml").read_text())
    (place / "params.yaml").write_text(json.dumps(params | {"train": params["train"] | {"seed": 1}}))
    assert whole(place)[0] == 0
    fresh = project(tmp_path / "q", folder, seed=1)
    assert whole(fresh)[0] == 0
    assert outs(place) == outs(fresh)


def test_micro_batch_and_checkpointing_change_hardly_a_bit_and_are_in_no_out(
    straight: Path, folder: Path, tmp_path: Path
):
    place = project(tmp_path / "p", folder, runtime={"micro_batch": 1, "gradient_checkpointing": True})
    assert whole(place)[0] == 0
    _same_word(place, straight)


def test_two_processes_learn_the_same_word(straight: Path, folder: Path, tmp_path: Path):
    """By the real launcher, as DVC starts it."""
    place = project(tmp_path / "p", folder)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    flags = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", _port()]
    done = subprocess.run(
        [*launcher, *flags, "-m", "stages.train"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("train: learnt: ") == 1
    _same_word(place, straight)


def test_when_one_process_dies_the_other_ends_with_a_message_and_the_run_goes_on(
    straight: Path, folder: Path, tmp_path: Path
):
    place, port = project(tmp_path / "p", folder), _port()
    crew = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    ranks = [
        start(place, environment=crew | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, log=f"rank{rank}")
        for rank in (0, 1)
    ]
    wait_for(ranks[0], place, 4)
    ranks[1].kill()
    finish(ranks[1], place, "rank1")
    code, said = finish(ranks[0], place, "rank0")
    assert code == 1, said
    assert "train: process 0 lost the others at step " in said
    assert "run the same command to go on" in said
    assert whole(place)[0] == 0
    _same_word(place, straight)


def _same_word(place: Path, other: Path) -> None:
    words = [load_file(p / "data" / "embedding" / "learned_embeds.safetensors")["<critter>"] for p in (place, other)]
    np.testing.assert_allclose(*words, atol=1e-5)
    assert outs(place).keys() == outs(other).keys()


def _port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
