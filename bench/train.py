"""Our trainer and the reference script on the same model, pictures, precision and batch, in turns: one table.

    python -m bench.train --model FOLDER --reference textual_inversion.py --out FOLDER [--precision fp16] [--side 512]

Every measurement is a process of its own with a time limit, and what is done when the budget ends is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

GPU_TESTS = ("tests/inversion/test_cuda.py", "tests/models/test_fused.py")
FORWARD_TFLOP = 0.803  # of Stable Diffusion 1.5 at 512 px, a sample; a step is twice that: no gradients of weights


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    pictures(args.out, args.side)
    deadline = time.monotonic() + args.budget
    rows: list[dict] = []
    # In the order of what one would miss most if the time were to run out.
    jobs = [
        ("ours", 60, ours(args, "graph4")),
        ("ours, one at a time", 60, ours(args, "graph1")),
        ("reference 1x4", 90, reference(args, 1, 4)),
        ("loose", 60, ours(args, "loose4")),
        ("twice", 60, ours(args, "twice4")),
        ("reference 4x1", 60, reference(args, 4, 1)),
        *((f"stages.train, cap {cap} GiB", 60, entry) for cap in args.caps),
        ("tests", 90, args.tests and [sys.executable, "-m", "pytest", "-q", *GPU_TESTS]),
        ("plain", 60, ours(args, "plain4", "eager4", "sdpa4")),
        ("kernels", 60, args.compiled and ours(args, "kernels4")),
        ("xformers", 60, ours(args, "xformers4")),
        ("full", 200, args.compiled and ours(args, "full4")),
        ("loosefull", 200, args.compiled and ours(args, "loosefull4")),
    ]
    for name, limit, command in jobs:
        left = deadline - time.monotonic()
        if not command:
            continue
        if left < 15:
            print(f"{name}: not run, no time left", flush=True)
            continue
        began = time.monotonic()
        if command is entry:
            rows += entry(args, name, float(name.split()[-2]), min(limit, left))
        else:
            rows += launch(name, command, min(limit, left), args.out)
        print(f"{name}: took {time.monotonic() - began:.0f} s", flush=True)
        (args.out / "rows.json").write_text(json.dumps(rows, indent=1))
    table(rows, args)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True, help="the script, by path")
    parser.add_argument("--out", type=Path, required=True, help="a folder for pictures and logs")
    parser.add_argument("--precision", default="fp16", choices=("no", "fp16", "bf16"))
    parser.add_argument("--side", type=int, default=512, help="pictures' side in pixels")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--reference-steps", type=int, default=14)
    parser.add_argument("--budget", type=float, default=400, help="seconds for everything")
    parser.add_argument("--tests", action="store_true", help="also the tests that need a GPU")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile, and where the time goes")
    parser.add_argument("--caps", type=float, nargs="*", default=[8, 4], help="GiB, for runs of the whole stage")
    return parser.parse_args()


def pictures(out: Path, side: int) -> None:
    """=> seven pictures for the script (a flat folder) and the same for us, with three more to judge by."""
    rng = np.random.default_rng(0)
    rows = {"train": [], "holdout": []}
    for part, count in (("train", 7), ("holdout", 3)):
        for i in range(count):
            picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            name = f"{part}/{i:02d}.png"
            for folder in (out / "data/curated", out / "flat"):
                if folder.name == "curated" or part == "train":
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    picture.save(folder / name)
            rows[part].append({"file": name})
    (out / "data/curated/index.json").write_text(json.dumps(rows))


def reference(args: argparse.Namespace, batch: int, accumulation: int) -> list[str]:
    """=> the command that times the script."""
    said = args.out / f"reference-{batch}.json"
    options = {
        "pretrained_model_name_or_path": args.model,
        "train_data_dir": args.out / "flat/train",
        "placeholder_token": "<new>",
        "initializer_token": "dragon",
        "learnable_property": "object",
        "resolution": args.side,
        "train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_train_steps": args.reference_steps,
        "learning_rate": 5e-3,
        "mixed_precision": args.precision,
        "output_dir": args.out / f"reference-{batch}",
        "seed": 0,
    }
    flat = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "bench.reference", str(said), str(args.reference), *flat]


def ours(args: argparse.Namespace, *variants: str) -> list[str]:
    """=> the command that times our trainer in these variants."""
    where = [str(args.model), str(args.out), args.precision, str(args.steps)]
    return [sys.executable, "-m", "bench.ours", *where, *variants]


def launch(name: str, command: list[str], limit: float, out: Path) -> list[dict]:
    """A command => the rows that it leaves behind, also when it was cut off."""
    results = out / "ours.jsonl"
    results.unlink(missing_ok=True)
    code, tail = run(command, limit, Path.cwd(), {"PYTHONPATH": path()})
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if command[2] == "bench.reference" and code == 0:
        said = json.loads(Path(command[3]).read_text())
        rows.append(said | {"name": name, "step_ms": 1000 * statistics.median(said.pop("steps_s")[3:])})
    if code or any("failed" in (row.get("note") or "") for row in rows) or command[2] == "pytest":
        print(f"{name}: ended with {code}\n{tail}", flush=True)
    elif "kernels" in name:
        print(tail, flush=True)
    return rows


def entry(args: argparse.Namespace, name: str, cap: float, limit: float) -> list[dict]:
    """A cap on memory => the whole stage under it, as a user would run it."""
    (args.out / "params.yaml").write_text(
        json.dumps(
            {
                "filter": {"class": "Any"},
                "model": {"base": str(args.model.resolve())},
                "concept": {"placeholder_token": "<new>", "initializer_token": "dragon"},
                "train": {"steps": args.steps, "learning_rate": 5e-3, "mixed_precision": args.precision},
                "render": {"prompts": {"plain": "a {}"}, "seeds": [0]},
                "evaluate": {"clip": "none"},
                "runtime": {"memory_gib": cap, "compile": "off", "trackers": []},
            }
        )
    )
    began = time.monotonic()
    code, tail = run([sys.executable, "-m", "stages.train"], limit, args.out, {"PYTHONPATH": path()})
    print("\n".join(line for line in tail.splitlines() if "train: " in line or code), flush=True)
    return [{"name": f"{name} (exit {code})", "total_s": time.monotonic() - began}]


def path() -> str:
    """=> PYTHONPATH with this repository first."""
    return f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def run(command: list[str], limit: float, folder: Path, extra: dict[str, str]) -> tuple[int, str]:
    """A command => exit code (124: out of time) and the end of what it said."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | extra, timeout=limit, capture_output=True, text=True, check=False
        )
        return done.returncode, (done.stderr + done.stdout)[-4000:]
    except subprocess.TimeoutExpired as late:
        return 124, str(late.stderr)[-1500:]


def table(rows: list[dict], args: argparse.Namespace) -> None:
    """Rows => Markdown, the best so far after every measurement, for the next one may be the last."""
    rate = next((row["matmul_tflops"] for row in rows if "matmul_tflops" in row), None)
    heads = ("trainer", "ms a step", "samples/s", "peak GiB", "reserved GiB", "of matmul rate", "run s", "note")
    print("\n| " + " | ".join(heads) + " |\n| --- |" + " ---: |" * 6 + " --- |")
    for row in rows:
        step = row.get("step_ms")
        share = 8 * FORWARD_TFLOP / (step / 1000) / rate if step and rate and args.side == 512 else None
        cells = (
            step and f"{step:.1f}",
            step and f"{4000 / step:.1f}",
            "peak_gib" in row and f"{row['peak_gib']:.2f}",
            "reserved_gib" in row and f"{row['reserved_gib']:.2f}",
            share and f"{100 * share:.1f}%",
            "total_s" in row and f"{row['total_s']:.1f}",
            row.get("note"),
        )
        print(f"| {row['name']} | " + " | ".join(cell or "" for cell in cells) + " |")
    print(f"matmul rate measured: {rate and round(rate)} TFLOP/s", flush=True)


if __name__ == "__main__":
    main()
