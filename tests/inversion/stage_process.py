"""The whole stage in processes of its own, forked from one that has imported it: real signals, real files, no wait."""

import contextlib
import hashlib
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.inversion.tiny_training import draw

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["stages.train", "tests.inversion.stage_process"])

RECIPE = {
    "steps": 30,
    "batch_size": 4,
    "learning_rate": 0.02,
    "validation_every": 4,
    "validation_timesteps": 2,
    "snapshot_every": 15,
    "progress_every": 10,
    "lr_scheduler": "cosine",
}
RUNTIME = {"trackers": [], "threads": 1, "checkpoint_seconds": 0, "device": "cpu"}
OUTS = ("embedding", "train.json", "loss.csv", "validation.csv")


def project(folder: Path, model: Path, *, runtime: dict | None = None, **recipe: object) -> Path:
    """=> a folder in which `stages.train` can run."""
    import json

    (folder / "starter").mkdir(parents=True, exist_ok=True)
    (folder / "starter" / "model").symlink_to(model)
    draw(folder / "data" / "curated")
    sections = {
        "filter": {"class": "Critter"},
        "concept": {"placeholder_token": "<critter>", "initializer_token": "dragon"},
        "train": RECIPE | recipe,
        "render": {"prompts": {"plain": "a {}"}, "seeds": [0]},
        "evaluate": {"clip": "starter/clip"},
        "runtime": RUNTIME | (runtime or {}),
    }
    (folder / "params.yaml").write_text(json.dumps(sections))
    return folder


def start(
    folder: Path, *, environment: dict | None = None, file_limit: int | None = None, log: str = "log"
) -> BaseProcess:
    """=> the stage, running in `folder`; what it says goes to the file `log` there."""
    process = FORKS.Process(target=_enter, args=(folder, environment or {}, file_limit, log))
    process.start()
    return process


def finish(process: BaseProcess, folder: Path, log: str = "log", seconds: float = 90) -> tuple[int, str]:
    """=> exit code (negative: the signal) and everything that it said."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"still running after {seconds} s:\n{(folder / log).read_text()}")
    return process.exitcode, (folder / log).read_text()


def whole(folder: Path, **options: object) -> tuple[int, str]:
    """=> exit code and words of a run that nobody disturbs."""
    return finish(start(folder, **options), folder)


def outs(folder: Path) -> dict[str, str]:
    """=> every out's file => the hash of its bytes."""
    files = [path for name in OUTS for path in [folder / "data" / name, *(folder / "data" / name).rglob("*")]]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }


def checkpoints(folder: Path) -> list[Path]:
    """=> checkpoints, oldest first."""
    return sorted((folder / ".scratch" / "train").glob("*/step-*.safetensors"))


def wait_for(process: BaseProcess, folder: Path, step: int, saving: bool = False) -> None:
    """Return when a checkpoint of `step` or a later one is there, or, with `saving`, while such a one is written."""
    pattern = "*/.step-*.tmp" if saving else "*/step-*.safetensors"
    while process.is_alive():
        for path in (folder / ".scratch" / "train").glob(pattern):
            if int(path.name.split("step-")[1][:8]) >= step:
                return
        time.sleep(0 if saving else 0.001)


def _enter(folder: Path, environment: dict, file_limit: int | None, log: str) -> None:
    os.chdir(folder)
    os.environ.update({"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"} | environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    from stages.train import main

    with contextlib.ExitStack() as after:
        after.callback(sys.stdout.flush)
        main()
