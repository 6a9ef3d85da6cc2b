"""Time and memory of a training step beside diffusers' textual_inversion.py, on Stable Diffusion 1.5's shape.

python -m bench.train [--reference textual_inversion.py]: every row is a process of its own, with an effective batch of
4; medians past the first four steps.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from bench import sd15
from bench.common import ROOT, environment, machine, parser
from bench.variant import VARIANTS


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--reference", type=Path, help="diffusers' examples/textual_inversion/textual_inversion.py")
    options.add_argument("--model", type=Path, help="a model to use instead of random weights")
    options.add_argument("--variants", nargs="*", default=list(VARIANTS)[:6], choices=VARIANTS)
    options.add_argument("--precision", default="fp16", choices=("no", "fp16", "bf16"))
    options.add_argument("--side", type=int, default=512, help="of the images, in pixels")
    options.add_argument("--steps", type=int, default=40)
    args = options.parse_args()
    print(f"{machine()}; {args.precision}, {args.side} px, batch 4, {args.steps} steps")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_images(folder / "data" / "curated", args.side)
        args.model = (args.model or sd15.build(folder / "model")).resolve()
        print("\n| trainer | ms a step | 90th percentile | peak GiB | run s | note |\n|---|---|---|---|---|---|")
        for batch, accumulation in ((1, 4), (4, 1)) if args.reference else ():
            result, script = folder / "reference.json", args.reference.resolve()
            command = ["bench.reference", result, script, *script_options(folder, args, batch, accumulation)]
            name = f"reference script, {batch} x {accumulation}"
            if run(name, command) is not None:
                report(name, json.loads(result.read_text()))
        shared = ["--model", args.model, "--precision", args.precision, "--steps", args.steps]
        for variant in args.variants:
            if output := run(variant, ["bench.variant", variant, folder, *shared]):
                report(variant, json.loads(output.splitlines()[-1]))


def report(name: str, row: dict) -> None:
    """Print a row of the table."""
    steps = sorted(row["steps_ms"][3:])
    times = f"{statistics.median(steps):.1f} | {steps[int(0.9 * len(steps))]:.1f}"
    print(f"| {name} | {times} | {row['peak_gib']:.2f} | {row['total_s']:.1f} | {row.get('note', '')} |", flush=True)


def run(name: str, command: list[object]) -> str | None:
    """Run a Python module; return its output, or print why it failed."""
    command = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"| {name} | failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]} |", flush=True)
    return None if done.returncode else done.stdout


def draw_images(folder: Path, side: int) -> None:
    """Write seven training images and three held-out ones, for both trainers."""
    random, index = np.random.default_rng(0), {"train": [], "holdout": []}
    for part, count in (("train", 7), ("holdout", 3)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            index[part].append({"file": f"{part}/{i:02d}.png"})
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / index[part][-1]["file"])
    (folder / "index.json").write_text(json.dumps(index))


def script_options(folder: Path, args: argparse.Namespace, batch: int, accumulation: int) -> list[str]:
    """Return the options of diffusers' script."""
    paths = {"pretrained_model_name_or_path": args.model, "train_data_dir": folder / "data/curated/train"}
    tokens = {"placeholder_token": "<new>", "initializer_token": "dragon", "output_dir": folder / "reference"}
    sizes = {"resolution": args.side, "train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    recipe = {"max_train_steps": 14, "learning_rate": 5e-3, "mixed_precision": args.precision, "seed": 0}
    return [f"--{name}={value}" for name, value in (paths | tokens | sizes | recipe).items()]


if __name__ == "__main__":
    main()
