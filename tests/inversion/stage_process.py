"""Run `stages.train` in processes of its own, forked from one that has imported it: real signals and files, no wait."""

import contextlib
import functools
import glob
import hashlib
import json
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.inversion.tiny_training import draw_curated

FORKS = multiprocessing.get_context("forkserver")

RECIPE = {
    "steps": 30,
    "batch_size": 4,
    "learning_rate": 0.02,
    "validation_every": 4,
    "validation_timesteps": 2,
    "snapshot_every": 15,
    "progress_every": 10,
    "lr_scheduler": "cosine",
    "search_starts": 2,
    "search_words": 4,
    "search_steps": 3,
}
RUNTIME = {"trackers": [], "threads": 1, "checkpoint_seconds": 0, "device": "cpu"}
OUTS = ("embedding", "train.json", "loss.csv", "validation.csv")


def make_project(folder: Path, model: Path, *, runtime: dict | None = None, **recipe: object) -> Path:
    """Create a folder in which `stages.train` can run."""
    (folder / "starter").mkdir(parents=True, exist_ok=True)
    if not (folder / "starter" / "model").exists():
        (folder / "starter" / "model").symlink_to(model)
        draw_curated(folder / "data" / "curated")
    sections = {
        "filter": {"class": "Critter"},
        "concept": {"placeholder_token": "<critter>", "initializer_token": "dragon", "initialization": "search"},
        "train": RECIPE | recipe,
        "render": {"prompts": {"plain": "a {}"}, "seeds": [0]},
        "evaluate": {"clip": "starter/clip"},
        **{name: {} for name in ("dataset", "curate", "model", "report")},
        "runtime": RUNTIME | (runtime or {}),
    }
    (folder / "params.yaml").write_text(json.dumps(sections))
    return folder


def start(
    folder: Path, *, environment: dict | None = None, file_limit: int | None = None, log: str = "log"
) -> BaseProcess:
    """Start the stage in `folder`, with its output in the file `log` there."""
    _start_fork_server()
    process = FORKS.Process(target=_run, args=(folder, environment or {}, file_limit, log))
    process.start()
    return process


def finish(process: BaseProcess, folder: Path, log: str = "log", seconds: float = 90) -> tuple[int, str]:
    """Wait for the process, and return its exit code (negative: a signal) and output."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"still running after {seconds} s:\n{(folder / log).read_text()}")
    return process.exitcode, (folder / log).read_text()


def complete(folder: Path, **options: object) -> str:
    """Run the stage to its end, and return its output."""
    code, output = finish(start(folder, **options), folder)
    assert code == 0, output
    return output


def outs(folder: Path) -> dict[str, str]:
    """Return the hash of every file of the outs."""
    files = [path for name in OUTS for path in [folder / "data" / name, *(folder / "data" / name).rglob("*")]]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints, oldest first."""
    return sorted((folder / ".scratch" / "train").glob("*/step-*.safetensors"))


def wait_for_step(process: BaseProcess, folder: Path, step: int, saving: bool = False) -> None:
    """Wait for a checkpoint of `step` or later or, with `saving`, until such a checkpoint is being written."""
    pattern = f"{'tmp' if saving else 'train'}/*/step-*.safetensors"
    while process.is_alive():
        # Unlike Path.glob, this ignores folders that vanish.
        for name in glob.glob(pattern, root_dir=folder / ".scratch"):  # noqa: PTH207
            if int(name.rpartition("step-")[2][:8]) >= step:
                return
        time.sleep(0 if saving else 0.003)


def kill_at(folder: Path, step: int, saving: bool = False) -> None:
    """Run the stage until `step`, and kill it."""
    process = start(folder)
    wait_for_step(process, folder, step, saving)
    process.kill()
    code, output = finish(process, folder)
    assert code == -9, f"not killed at step {step}\n{output}"


@functools.cache
def _start_fork_server() -> None:
    """Start the fork server with the imports of the stage, also if an earlier test has started it with fewer."""
    forkserver._forkserver._stop()
    forkserver.set_forkserver_preload(
        ["stages.train", "stages.images.quality.manifest", "tests.inversion.stage_process"]
    )


def _run(folder: Path, environment: dict, file_limit: int | None, log: str) -> None:
    os.chdir(folder)
    os.environ.update({"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"} | environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    from stages.models import preview
    from stages.train import main

    preview.STEPS = 4  # as in conftest.py, which patches the process of the tests
    with contextlib.ExitStack() as stack:
        stack.callback(sys.stdout.flush)
        main()
