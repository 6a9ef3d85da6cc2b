"""Time and memory of a training step beside diffusers' textual_inversion.py, on Stable Diffusion 1.5's shape.

Every row is a process of its own. Effective batch 4; medians past the first four steps. The caps run the whole stage.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench import sd15
from bench.variant import VARIANTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, help="diffusers' examples/textual_inversion/textual_inversion.py")
    parser.add_argument("--model", type=Path, help="a model to use instead of random weights")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS)[:6], choices=VARIANTS)
    parser.add_argument("--caps", type=float, nargs="*", default=[8, 4], help="memory limits of whole stages, in GiB")
    parser.add_argument("--precision", default="fp16", choices=("no", "fp16", "bf16"))
    parser.add_argument("--side", type=int, default=512, help="of the images, in pixels")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(temporary), args)


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Print a row for every variant, the reference and the caps, as soon as it is measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}, PyTorch {torch.__version__}, {args.precision}, {args.side} px, batch 4, {args.steps} steps")
    draw_images(folder, args.side)
    args.model = (args.model or sd15.build(folder / "model")).resolve()
    print("\n| trainer | ms a step | 90th percentile | peak GiB | run s | note |\n|---|---|---|---|---|---|")
    for batch, accumulation in ((1, 4), (4, 1)) if args.reference else ():
        name, result = f"reference script, {batch} x {accumulation}", folder / "reference.json"
        options = script_options(folder, args, batch, accumulation)
        if run(name, ["-m", "bench.reference", result, args.reference.resolve(), *options]) is not None:
            report(name, json.loads(result.read_text()))
    shared = ["--model", args.model, "--precision", args.precision, "--steps", args.steps]
    for variant in args.variants:
        output = run(variant, ["-m", "bench.variant", variant, folder, *shared])
        if output:
            *profile, row = output.strip().splitlines()
            report(variant, json.loads(row))
            print(*profile, sep="\n", end="\n" if profile else "")
    for cap in args.caps:
        write_params(folder, args, cap)
        start = time.monotonic()
        if run(f"memory_gib: {cap}", ["-m", "stages.train"], folder) is not None:
            report(f"whole stage, memory_gib: {cap}", {"total_s": time.monotonic() - start})


def report(name: str, row: dict) -> None:
    """Print a row of the table."""
    steps = row.get("steps_ms", [])[3:]
    step = f"{statistics.median(steps):.1f} | {sorted(steps)[int(0.9 * len(steps))]:.1f}" if steps else " | "
    peak = f"{row['peak_gib']:.2f}" if "peak_gib" in row else ""
    print(f"| {name} | {step} | {peak} | {row['total_s']:.1f} | {row.get('note', '')} |", flush=True)


def run(name: str, command: list[object], folder: Path | None = None) -> str | None:
    """Run Python with these arguments; return its output, or print why it failed."""
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder or root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"| {name} | failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]} |", flush=True)
        return None
    return done.stdout


def draw_images(folder: Path, side: int) -> None:
    """Write seven training images and three held-out ones, for both trainers."""
    random, index = np.random.default_rng(0), {"train": [], "holdout": []}
    for part, count in (("train", 7), ("holdout", 3)):
        (folder / "data/curated" / part).mkdir(parents=True)
        for i in range(count):
            name = f"{part}/{i:02d}.png"
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data/curated" / name)
            index[part].append({"file": name})
    (folder / "data/curated/index.json").write_text(json.dumps(index))


def script_options(folder: Path, args: argparse.Namespace, batch: int, accumulation: int) -> list[str]:
    """Return the options of diffusers' script."""
    options = {
        "pretrained_model_name_or_path": args.model,
        "train_data_dir": folder / "data/curated/train",
        "placeholder_token": "<new>",
        "initializer_token": "dragon",
        "learnable_property": "object",
        "resolution": args.side,
        "train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_train_steps": 14,
        "learning_rate": 5e-3,
        "mixed_precision": args.precision,
        "output_dir": folder / "reference",
        "seed": 0,
    }
    return [f"--{name}={value}" for name, value in options.items()]


def write_params(folder: Path, args: argparse.Namespace, cap: float) -> None:
    """Write params.yaml for a whole train stage with a memory limit."""
    sections = {
        "filter": {"class": "Any"},
        "model": {"base": str(args.model)},
        "concept": {"placeholder_token": "<new>", "initializer_token": "dragon"},
        "train": {"steps": args.steps, "learning_rate": 5e-3, "mixed_precision": args.precision},
        "render": {"prompts": {"plain": "a {}"}, "seeds": [0]},
        "evaluate": {"clip": "starter/clip"},
        "runtime": {"memory_gib": cap, "trackers": []},
    }
    (folder / "params.yaml").write_text(json.dumps(sections))


if __name__ == "__main__":
    main()
