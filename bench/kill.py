"""Stop `dvc repro` at random moments of every stage, and go on as `make run` does: python -m bench.kill. The outs must
be the same.

Signals go to dvc, to the stage, or to their process group (as by Ctrl-C). No process may be left after 2 s, and no
temporary file under data/ after the next run. The starter trains and renders a few steps. dvc alone ignores SIGINT.
"""

import os
import random
import signal
import subprocess
import tempfile
import time
import timeit
from pathlib import Path

import psutil

from bench.common import ROOT, environment, machine, make_project, parse

OVERRIDES = """train.steps=12 train.batch_size=1 train.lr_warmup_steps=4 train.validation_every=6 render.seeds=[0]
train.validation_timesteps=1 curate.resolution=64 render.steps=4 runtime.checkpoint_seconds=0 runtime.workers=2"""
STAGES = ("download", "filter", "curate", "train", "render", "evaluate", "report")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    count, good = parse(__doc__, count=60).count, 0
    for number in (signal.SIGINT, signal.SIGHUP):  # a background job, and what it starts, would ignore them
        signal.signal(number, signal.SIG_DFL)
    print(machine(), "signal | to | stage | exit code of dvc | same hashes | processes left | files left", sep="\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_project(folder, OVERRIDES.split())
        for name in ("stages", "dvc.yaml", "versions.txt", ".dvcignore"):
            (folder / name).symlink_to(ROOT / name)
        os.environ["DVC_NO_ANALYTICS"] = "1"  # its daemon would be left
        subprocess.run(["dvc", "init", "-q", "--no-scm", "-f"], cwd=folder, env=environment(), check=True)
        seconds = {stage: timeit.timeit(reproduce(folder, "-s", stage).wait, number=1) for stage in STAGES}
        expected = (folder / "dvc.lock").read_text()
        for i in range(count):
            stage, number, target = STAGES[i % 7], SIGNALS[i % 4], ("dvc", "stage", "group")[i % 3]
            code, left = interrupt(folder, stage, number, target, random.uniform(0, seconds[stage]))
            same = make_run(folder) == 0 and (folder / "dvc.lock").read_text() == expected
            files = [path.name for path in folder.glob("data/**/.*")]
            print(number.name, target, stage, code, same, left, files, sep=" | ", flush=True)
            good += same and not left and not files
    print(f"{good} of {count} with the same hashes and nothing left")
    raise SystemExit(good != count)


def reproduce(folder: Path, *options: str) -> subprocess.Popen:
    """Start `dvc repro` in a process group of its own."""
    command, log = ["dvc", "repro", *options], (folder / "log").open("w")
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True)


def make_run(folder: Path) -> int:
    """Run `make run` without its set-up; return the exit code."""
    command = ["make", "-f", ROOT / "Makefile", "-o", ".venv/.set-up", "run"]
    with (folder / "log").open("w") as log:
        return subprocess.call(command, cwd=folder, env=environment(), stdout=log, stderr=log)


def interrupt(folder: Path, stage: str, number: int, target: str, moment: float) -> tuple[int, list[str]]:
    """Run a stage and send a signal after `moment` seconds; return dvc's exit code and the processes left after 2 s."""
    dvc = reproduce(folder, "-s", "-f", stage)
    time.sleep(moment)
    if dvc.poll() is None:
        stages = psutil.Process(dvc.pid).children() if target == "stage" else []
        os.killpg(dvc.pid, number) if target == "group" else os.kill(stages[0].pid if stages else dvc.pid, number)
    time.sleep(2)
    if dvc.poll() is None:
        return dvc.wait(), []
    running = [p.info for p in psutil.process_iter(["cwd", "cmdline"]) if p.pid != dvc.pid]
    return dvc.returncode, [" ".join(info["cmdline"]) for info in running if info["cwd"] == str(folder)]


if __name__ == "__main__":
    main()
