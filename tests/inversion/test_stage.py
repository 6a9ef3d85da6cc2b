"""The train stage ends with the same bytes after kills, stops, damage and a full disk, and on several processes."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.closure import ROOT
from tests.inversion.stage_process import (
    checkpoints,
    complete,
    finish,
    kill_at,
    make_project,
    outs,
    start,
    wait_for_step,
)
from tests.slow import slow


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("uninterrupted") / "project", folder)
    assert "train: learned: the test loss is " in complete(project)
    return project


def test_outs_are_complete_and_scratch_is_removed(uninterrupted: Path):
    assert sorted(outs(uninterrupted)) == [
        "data/embedding/learned_embeds.safetensors",
        *(f"data/embedding/progress/step-{step:06d}.png" for step in (0, 10, 20, 30)),
        "data/embedding/snapshots/step-000015.safetensors",
        "data/embedding/snapshots/step-000030.safetensors",
        "data/loss.csv",
        "data/train.json",
        "data/validation.csv",
    ]
    assert list((uninterrupted / ".scratch" / "train").iterdir()) == []
    assert json.loads((uninterrupted / "data" / "train.json").read_text())["steps_run"] == 30
    assert len((uninterrupted / "data" / "loss.csv").read_text().splitlines()) == 31


def test_outs_do_not_depend_on_place_or_time(uninterrupted: Path, folder: Path, tmp_path: Path):
    project = make_project(tmp_path / "another name", folder)
    complete(project)
    assert outs(project) == outs(uninterrupted)
    private = (str(tmp_path), str(ROOT), socket.gethostname(), time.strftime("%Y-%m-%d"))
    for name in outs(project):
        assert not any(text.encode() in (project / name).read_bytes() for text in private), name


def test_killed_run_ends_with_the_same_bytes(uninterrupted: Path, folder: Path, tmp_path: Path):
    """Three kills of one run, at random steps; bench/kill.py does many."""
    project, steps = make_project(tmp_path / "p", folder), sorted(random.Random().sample(range(20), 3))
    for step, saving in zip(steps, (False, True, False), strict=True):
        kill_at(project, step, saving)
    complete(project)
    assert outs(project) == outs(uninterrupted), f"killed at steps {steps}"
    assert not list((project / ".scratch" / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)], ids=["SIGTERM", "SIGINT"])
def test_stop_signal_saves_and_the_same_command_continues(
    uninterrupted: Path, folder: Path, tmp_path: Path, number: int
):
    project = make_project(tmp_path / "p", folder)
    process = start(project)
    wait_for_step(process, project, 3)
    os.kill(process.pid, number)
    code, output = finish(process, project)
    assert code == 128 + number
    step = int(checkpoints(project)[-1].stem.split("-")[1])
    assert f"train: stopped at step {step}; run the same command to continue" in output
    assert "Traceback" not in output
    complete(project)
    assert outs(project) == outs(uninterrupted)


def test_damaged_checkpoint_is_replaced_by_the_one_before(uninterrupted: Path, folder: Path, tmp_path: Path):
    project = make_project(tmp_path / "p", folder)
    kill_at(project, 5)
    newest = checkpoints(project)[-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    assert f"checkpoint {newest.name} is damaged or of another run" in complete(project)
    assert outs(project) == outs(uninterrupted)


@pytest.mark.slow
def test_full_disk_is_reported_and_the_run_continues_when_there_is_space(folder: Path, tmp_path: Path):
    """The file size is limited: checkpoints grow with their curves, so one fails some steps after the first."""
    project = make_project(tmp_path / "p", folder, progress_every=0)
    kill_at(project, 2)
    saved = checkpoints(project)[-1]
    code, output = finish(start(project, file_limit=saved.stat().st_size + 40), project)
    assert code == 1
    assert "Traceback" not in output
    assert "train: File too large: .scratch/train/" in output
    assert "; free some space or allow writing there, and run again." in output
    assert not list((project / ".scratch" / "tmp").iterdir())
    assert not (project / "data" / "embedding").exists()
    assert checkpoints(project)[-1].name >= saved.name
    complete(project)
    fresh = make_project(tmp_path / "q", folder, progress_every=0)
    complete(fresh)
    assert outs(project) == outs(fresh)


def test_known_placeholder_is_one_line(folder: Path, tmp_path: Path):
    project = make_project(tmp_path / "p", folder)
    params = json.loads((project / "params.yaml").read_text())
    params["concept"]["placeholder_token"] = "cat"
    (project / "params.yaml").write_text(json.dumps(params))
    code, output = finish(start(project), project)
    assert code == 1
    assert "Traceback" not in output
    assert all(word in output for word in ("placeholder_token", "cat", "already a token")), output
    assert outs(project) == {}


def test_unwritable_scratch_is_reported(folder: Path, tmp_path: Path):
    """A file in place of the folder stops root too."""
    project = make_project(tmp_path / "p", folder)
    (project / ".scratch").write_text("")
    code, output = finish(start(project), project)
    assert code == 1
    assert "Traceback" not in output
    assert "train: " in output
    assert ".scratch" in output


def test_second_run_names_the_process_of_the_first(folder: Path, tmp_path: Path):
    """Also with other params, because both runs would write the same outs and tracker folder."""
    project = make_project(tmp_path / "p", folder, steps=1000)
    process = start(project)
    wait_for_step(process, project, 2)
    make_project(project, folder, steps=3)
    code, output = finish(start(project, log="second"), project, "second")
    process.kill()
    finish(process, project)
    assert code == 1
    assert f"train is already running as process {process.pid}; wait for it, or end it with `kill" in output


@pytest.mark.slow
def test_other_params_never_resume_an_old_checkpoint(folder: Path, tmp_path: Path):
    project = make_project(tmp_path / "p", folder)
    kill_at(project, 5)
    params = json.loads((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(json.dumps(params | {"train": params["train"] | {"seed": 1}}))
    complete(project)
    fresh = make_project(tmp_path / "q", folder, seed=1)
    complete(fresh)
    assert outs(project) == outs(fresh)


@pytest.mark.slow
def test_replaced_weights_never_resume_an_old_checkpoint(folder: Path, tmp_path: Path):
    """The weights differ by one bit, in a file of the same size and time behind a symbolic link."""
    model = shutil.copytree(folder, tmp_path / "model")
    project = make_project(tmp_path / "p", model)
    kill_at(project, 5)
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    content, times = bytearray(file.read_bytes()), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    content[-2] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=times)
    complete(project)
    fresh = make_project(tmp_path / "q", model)
    complete(fresh)
    assert outs(project) == outs(fresh)


@pytest.mark.slow
def test_runtime_changes_rounding_only_and_is_in_no_out(uninterrupted: Path, folder: Path, tmp_path: Path):
    runtime = {"micro_batch": 1, "gradient_checkpointing": True, "offload": True}
    project = make_project(tmp_path / "p", folder, runtime=runtime)
    complete(project)
    assert_close(project, uninterrupted)


def start_ranks(project: Path, processes: int) -> list[BaseProcess]:
    """Start one process per rank, with the environment and the logs that PyTorch's launcher gives them."""
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    return [
        start(
            project,
            environment=world | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
            log=f"rank{rank}",
        )
        for rank in range(processes)
    ]


def finish_ranks(project: Path, ranks: list[BaseProcess]) -> tuple[list[int], str]:
    """Wait for the processes; return their exit codes and their output."""
    ended = [finish(process, project, f"rank{rank}") for rank, process in enumerate(ranks)]
    return [code for code, _ in ended], "".join(output for _, output in ended)


@pytest.mark.parametrize("processes", [slow(2), 3])
def test_several_processes_learn_the_same_embedding(uninterrupted: Path, folder: Path, tmp_path: Path, processes: int):
    """Three cannot share a batch of four equally."""
    project = make_project(tmp_path / "p", folder)
    codes, output = finish_ranks(project, start_ranks(project, processes))
    assert codes == [0] * processes, output
    assert output.count("train: learned: ") == 1
    assert_close(project, uninterrupted)


def test_more_processes_than_samples_are_refused(folder: Path, tmp_path: Path):
    project = make_project(tmp_path / "p", folder, batch_size=1)
    codes, output = finish_ranks(project, start_ranks(project, 2))
    assert codes == [1, 1]
    assert "2 processes cannot share a batch of 1; launch fewer" in output


@pytest.mark.slow
def test_two_machines_learn_the_same_embedding(uninterrupted: Path, folder: Path, tmp_path: Path):
    """The command of docs/sharing.md, with both machines on the loopback interface, each with a folder of its own."""
    (command,) = re.findall(r"^accelerate (launch .*stages\.train)$", (ROOT / "docs" / "sharing.md").read_text(), re.M)
    assert "--main_process_ip HOST_0 --main_process_port 29500" in command
    command = command.replace("HOST_0", "127.0.0.1").replace("29500", port())
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    projects = [make_project(tmp_path / f"machine {rank}", folder) for rank in (0, 1)]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.accelerate_cli", *command.replace("RANK", str(rank)).split()],
            cwd=project,
            env=os.environ | environment | {"ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, project in enumerate(projects)
    ]
    printed = [machine.communicate(timeout=90)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    assert_close(projects[0], uninterrupted)
    assert outs(projects[1]) == {}


@pytest.mark.slow
def test_interrupt_of_several_launched_processes_saves_and_exits_with_130(folder: Path, tmp_path: Path):
    """By the command of dvc.yaml, which starts several processes if accelerate's config says so."""
    project = make_project(tmp_path / "p", folder, steps=10**5)
    command = [sys.executable, "-m", "stages.common.launch", "--quiet", "--num_machines=1", "--mixed_precision=no"]
    several = ["--multi_gpu", "--num_processes=2", f"--main_process_port={port()}"]
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with (project / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *several, "--dynamo_backend=no", "-m", "stages.train"],
            cwd=project,
            env=os.environ | environment | {"HF_HOME": str(tmp_path)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_for_step(SimpleNamespace(is_alive=lambda: process.poll() is None), project, 2)
    trained_by = int((project / ".scratch" / "train.pid").read_text())
    assert trained_by != process.pid
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    printed = (project / "log").read_text()
    assert printed.count("; run the same command to continue") == 1
    assert "Traceback" not in printed


def test_death_of_one_process_is_reported_by_the_other(uninterrupted: Path, folder: Path, tmp_path: Path):
    project = make_project(tmp_path / "p", folder)
    ranks = start_ranks(project, 2)
    wait_for_step(ranks[0], project, 4)
    ranks[1].kill()
    finish(ranks[1], project, "rank1")
    code, output = finish(ranks[0], project, "rank0")
    assert code == 1, output
    assert "train: process 0 lost the connection to another process" in output
    assert "run the same command to continue" in output
    complete(project)
    assert_close(project, uninterrupted)


def assert_close(project: Path, other: Path) -> None:
    a, b = (load_file(p / "data" / "embedding" / "learned_embeds.safetensors")["<critter>"] for p in (project, other))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert outs(project).keys() == outs(other).keys()


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
