"""Kill the train stage at random moments, run it again, and compare its outs with those of an uninterrupted run.

Every second kill waits until a checkpoint is being written. The starter trains for a few steps of batch 1.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import environment, machine, make_project, parser, run_stage, write_params
from stages.common.files import fingerprint

OVERRIDES = ["train.steps=24", "train.batch_size=1", "train.lr_warmup_steps=4", "train.validation_every=6"]
OUTS = ("embedding", "train.json", "loss.csv", "validation.csv")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=20, help="number of kills")
    count, same = options.parse_args().count, 0
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        origin = Path(temporary) / "uninterrupted"
        params = make_project(origin, OVERRIDES)
        params["runtime"] |= {"checkpoint_seconds": 0, "trackers": []}
        write_params(origin, params)
        for stage in ("download", "filter", "curate"):
            run_stage(origin, stage)
        shutil.copytree(origin, Path(temporary) / "curated", symlinks=True)
        seconds = run_stage(origin, "train")
        for i in range(count):
            folder = shutil.copytree(Path(temporary) / "curated", Path(temporary) / str(i), symlinks=True)
            moment = kill(folder, random.uniform(0.4, 0.95) * seconds, while_saving=bool(i % 2))
            run_stage(folder, "train")
            is_same = outs(folder) == outs(origin)
            same += is_same
            print(f"{i + 1:3}: killed {moment}: {'the same bytes' if is_same else 'DIFFERENT'}", flush=True)
            shutil.rmtree(folder)
    print(f"{same} of {count} byte-identical")
    raise SystemExit(same != count)


def kill(folder: Path, seconds: float, while_saving: bool) -> str:
    """Start the stage and kill it after some seconds, or at the next write of a checkpoint; describe the moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    start = time.perf_counter()
    time.sleep(seconds)
    while while_saving and process.poll() is None and not list(folder.glob(".scratch/train/*/.step-*.tmp")):
        pass
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return "too late"
    return f"after {time.perf_counter() - start:.1f} s{', while saving' * while_saving}"


def outs(folder: Path) -> str:
    """Return the fingerprint of all outs of the stage."""
    return fingerprint(*(folder / "data" / name for name in OUTS))


if __name__ == "__main__":
    main()
