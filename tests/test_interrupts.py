"""Every stage ends on a signal with one line and leaves nothing, and ends with DVC. Real processes, real DVC."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests import project
from tests.outs import write_curated, write_embedding
from tests.slow import slow
from tests.tiny import WIDTH

STAGES = ("download", "filter", "curate", "train", "render", "evaluate", "report")
FEW = ("download", "train", "evaluate")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SLOW_STOPS = (slow(signal.SIGINT), slow(signal.SIGHUP))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose filter, train and render take minutes, and a class of a few images."""
    folder = project.create(tmp_path_factory.mktemp("interrupts") / "project")
    for i in range(2000):
        image = (folder / "images" / "Critter" / f"{i % 8}.png").read_bytes()
        (folder / "images" / "Critter" / f"copy{i}.png").write_bytes(image + b"%d" % i)
    project.draw_images(folder / "images" / "Few", 8)
    runtime = {"checkpoint_seconds": 0, "workers": 2}
    project.change(folder, train={"steps": 10**5}, render={"seeds": list(range(1000))}, runtime=runtime)
    write_embedding(folder / "data" / "embedding" / "learned_embeds.safetensors", np.ones((1, WIDTH)))
    project.run(folder, "python", "-m", "stages.download")
    write_curated(folder / "data" / "curated")
    return folder


def start(folder: Path, *command: str) -> subprocess.Popen:
    """Start a command in a process group of its own, with its output in the file `log`."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": tools, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["SHELL"] = "/bin/sh"  # it may wait for the command, where Bash replaces itself by it
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:  # a background job, and what it starts, would ignore it
            signal.signal(number, signal.SIG_DFL)
    log = (folder / "log").open("w")
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def wait(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def running(folder: Path) -> list[psutil.Process]:
    """Return the processes that run in a folder."""
    processes = psutil.process_iter(["cwd", "status"])
    return [p for p in processes if p.info["cwd"] == str(folder) and p.info["status"] != psutil.STATUS_ZOMBIE]


def working(folder: Path, stage: str) -> psutil.Process | None:
    """Return the process of a stage once it does its work: filter has workers, train a step, render an image."""
    pattern = {
        "train": ".scratch/train/*/step-*[1-9].*",
        "render": ".scratch/render/*.png",
        "filter": ".scratch/filter.pid",
    }
    pid = folder / ".scratch" / f"{stage}.pid"
    if pid.is_file() and pid.read_text() and list(folder.glob(pattern[stage])):
        process = psutil.Process(int(pid.read_text()))
        return process if stage != "filter" or len(process.children(recursive=True)) >= 4 else None
    return None


def clear(folder: Path) -> None:
    subprocess.run(["rm", "-rf", folder / ".scratch"], check=True)


def handles_signals(process: subprocess.Popen) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << signal.SIGTERM - 1)


@pytest.mark.parametrize("stage", [stage if stage in FEW else slow(stage) for stage in STAGES])
def test_interrupt_during_imports_is_one_line(folder: Path, stage: str):
    process = start(folder, "python", "-m", f"stages.{stage}")
    wait(lambda: handles_signals(process))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert (folder / "log").read_text() == f"{stage}: stopped by SIGINT; run the same command to continue.\n"


@pytest.mark.parametrize(
    ("stage", "number"),
    [*(("filter", number) for number in STOPS), ("train", signal.SIGTERM), slow("render", signal.SIGHUP)],
    ids=lambda value: getattr(value, "name", value),
)
def test_signal_to_the_group_is_one_line_and_leaves_nothing(folder: Path, stage: str, number: signal.Signals):
    clear(folder)
    process = start(folder, "python", "-m", f"stages.{stage}")
    wait(lambda: working(folder, stage))
    os.killpg(process.pid, number)
    assert process.wait() == 128 + number
    wait(lambda: not running(folder))
    printed = (folder / "log").read_text()
    assert "Traceback" not in printed
    assert printed.count("run the same command to continue") == 1
    assert not list(folder.glob(".scratch/tmp/*"))
    if stage == "train":
        assert f"train: stopped at step {step(folder)}" in printed


def step(folder: Path) -> int:
    return int(max(folder.glob(".scratch/train/*/step-*")).stem.partition("-")[2])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, *SLOW_STOPS], ids=lambda number: number.name)
def test_workers_of_the_filter_end_with_it(folder: Path, number: signal.Signals):
    clear(folder)
    process = start(folder, "python", "-m", "stages.filter")
    wait(lambda: working(folder, "filter"))
    process.send_signal(number)
    process.wait()
    wait(lambda: not running(folder))


@pytest.mark.parametrize(
    ("stage", "number"),
    [("filter", signal.SIGTERM), ("filter", signal.SIGHUP), ("train", signal.SIGKILL)],
    ids=lambda value: getattr(value, "name", value),
)
def test_stage_ends_with_dvc(folder: Path, stage: str, number: signal.Signals):
    clear(folder)
    process = start(folder, "dvc", "repro", "-s", "-f", stage)
    wait(lambda: working(folder, stage))
    process.send_signal(number)
    assert process.wait() == -number
    wait(lambda: not running(folder))
    assert "Traceback" not in (folder / "log").read_text()


def test_interrupt_of_dvc_and_the_stage_fails_with_130(folder: Path):
    clear(folder)
    process = start(folder, "dvc", "repro", "-s", "-f", "train")
    wait(lambda: working(folder, "train"))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() != 0
    wait(lambda: not running(folder))
    printed = (folder / "log").read_text()
    assert "exited with 130" in printed
    assert "Traceback" not in printed
    assert f"train: stopped at step {step(folder)}" in printed


@pytest.mark.parametrize("blocks", [0, 2], ids=["nothing fits", "the manifest does not fit"])
def test_filter_without_room_is_one_line_and_leaves_nothing(folder: Path, request, blocks: int):
    """Files may have some blocks of 512 or 1024 bytes, which fails as a full disk does."""
    clear(folder)
    params = (folder / "params.yaml").read_text()
    request.addfinalizer(lambda: (folder / "params.yaml").write_text(params))
    (folder / "params.yaml").write_text(params.replace("class: Critter", "class: Few"))
    command = ["sh", "-c", f"ulimit -f {blocks}; exec {sys.executable} -m stages.filter"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("filter: File too large: ")
    assert "Traceback" not in done.stderr
    wait(lambda: not running(folder))
    assert not list(folder.glob(".scratch/tmp/*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, *SLOW_STOPS], ids=lambda number: number.name)
def test_fork_server_ends_with_the_filter_while_it_imports(folder: Path, number: signal.Signals):
    clear(folder)
    process = start(folder, "python", "-m", "stages.filter")
    wait(lambda: [p for p in running(folder) if "forkserver" in " ".join(p.cmdline())])
    process.send_signal(number)
    process.wait()
    wait(lambda: not running(folder))
