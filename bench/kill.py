"""Kill the train stage at random moments and run it again: python -m bench.kill. The outs must have the same bytes.

Every second kill waits until a checkpoint is being written. The starter trains for a few steps of batch 1.
"""

import random
import shutil
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
        template = Path(temporary) / "template"
        params = make_project(template, OVERRIDES)
        params["runtime"] |= {"checkpoint_seconds": 0, "trackers": []}
        write_params(template, params)
        for stage in ("download", "filter", "curate"):
            run_stage(template, stage)
        reference = shutil.copytree(template, Path(temporary) / "reference", symlinks=True)
        run_stage(reference, "train")
        for i in range(count):
            folder = shutil.copytree(template, Path(temporary) / str(i), symlinks=True)
            moment = kill(folder, random.randrange(1, 20), while_saving=bool(i % 2))
            run_stage(folder, "train")
            hashes = [fingerprint(*(project / "data" / out for out in OUTS)) for project in (folder, reference)]
            same += hashes[0] == hashes[1] and moment.startswith("killed")
            print(f"{i + 1:3}: {moment}: {'the same bytes' if hashes[0] == hashes[1] else 'DIFFERENT'}", flush=True)
    print(f"{same} of {count} byte-identical")
    raise SystemExit(same != count)


def kill(folder: Path, step: int, while_saving: bool) -> str:
    """Start the stage and kill it at a checkpoint of `step` or later, or while one is written; describe the moment."""
    command, quiet = [sys.executable, "-m", "stages.train"], subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=quiet, stderr=quiet)
    pattern = ".scratch/train/*/.step-*.tmp" if while_saving else ".scratch/train/*/step-*.safetensors"
    while process.poll() is None and not any(int(p.name.split("-")[1][:8]) >= step for p in folder.glob(pattern)):
        time.sleep(0 if while_saving else 0.01)
    process.kill()
    ended = process.wait() == 0
    return "ended before the kill" if ended else f"killed at step {step}{', while saving' * while_saving}"


if __name__ == "__main__":
    main()
