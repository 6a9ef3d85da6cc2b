"""Stop `dvc repro` at random moments of every stage and run it again: python -m bench.kill. The outs must be the same.

Signals go to dvc, to the stage, or to their process group (as by Ctrl-C). No process may be left after 2 s, and no
temporary file under data/ after the next run. The starter trains and renders a few steps. dvc alone ignores SIGINT.
"""

import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from bench.common import ROOT, environment, machine, make_project, parser, write_params

OVERRIDES = ["train.steps=24", "train.batch_size=1", "train.lr_warmup_steps=4", "train.validation_every=6"]
OVERRIDES += ["render.prompts={plain: 'a {}'}", "render.seeds=[0]", "render.steps=4"]
STAGES = ("download", "filter", "curate", "train", "render", "evaluate", "report")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=60, help="number of signals")
    count, table = options.parse_args().count, Counter()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        params = make_project(folder, OVERRIDES)
        write_params(folder, params | {"runtime": params["runtime"] | {"checkpoint_seconds": 0, "workers": 2}})
        for name in ("stages", "dvc.yaml", "versions.txt", ".dvcignore"):
            (folder / name).symlink_to(ROOT / name)
        subprocess.run(["dvc", "init", "-q", "--no-scm", "-f"], cwd=folder, env=environment(), check=True)
        reproduce(folder).wait()
        expected, seconds = (folder / "dvc.lock").read_text(), {}
        for stage in STAGES:
            start = time.monotonic()
            reproduce(folder, "-s", "-f", stage).wait()
            seconds[stage] = time.monotonic() - start
        for i in range(count):
            stage, number, target = STAGES[i % 7], SIGNALS[i % 4], ("dvc", "stage", "group")[i % 3]
            end, left = interrupt(folder, stage, number, target, random.uniform(0, seconds[stage]))
            ok = reproduce(folder).wait() == 0 and (folder / "dvc.lock").read_text() == expected
            temporaries = [path.name for path in folder.glob("data/**/.*")]
            table[number.name, target, end, ok, len(left), len(temporaries)] += 1
            print(f"{i:3} {stage} {number.name} {target}: {end} {ok} {left} {temporaries}", flush=True)
    print("signal, target, dvc's exit code, same hashes, processes left, temporary files left: number")
    print(*(f"{', '.join(map(str, row))}: {number}" for row, number in sorted(table.items())), sep="\n")
    raise SystemExit(any(row[3:] != (True, 0, 0) for row in table))


def reproduce(folder: Path, *options: str) -> subprocess.Popen:
    """Start `dvc repro` in a process group of its own."""
    command, log = ["dvc", "repro", *options], (folder / "log").open("w")
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True)


def interrupt(folder: Path, stage: str, number: int, target: str, moment: float) -> tuple[int, list[str]]:
    """Run a stage and send a signal after `moment` seconds; return dvc's exit code and the processes left after 2 s."""
    dvc = reproduce(folder, "-s", "-f", stage)
    time.sleep(moment)
    children = psutil.Process(dvc.pid).children() if dvc.poll() is None else []
    if target == "group":
        os.killpg(dvc.pid, number)
    elif dvc.poll() is None:
        os.kill(children[0].pid if children and target == "stage" else dvc.pid, number)
    time.sleep(2)
    running = [p for p in psutil.process_iter(["cwd", "cmdline", "status"]) if p.info["cwd"] == str(folder)]
    left = [p.info["cmdline"] for p in running if p.info["status"] != "zombie" and dvc.poll() is not None]
    return dvc.wait(), left


if __name__ == "__main__":
    main()
