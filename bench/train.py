"""Time and memory of a training step beside diffusers' textual_inversion.py, on the shape of a model.

python -m bench.train [--reference textual_inversion.py]: every row is a process of its own, with an effective batch of
4; medians past the first four steps. --shape is one of bench.shapes, --model a folder instead of random weights, --t5
and --storage_dtype those of `model` in params.yaml, --side in pixels (0: the shape's own). --row and --folder are for
those processes.
"""

import argparse
import hashlib
import importlib.util
import itertools
import json
import random
import runpy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image, ImageOps

from bench import shapes
from bench.common import machine, parse, run_row
from stages.common.runtime import Runtime
from stages.inversion.dataset import curated_images
from stages.inversion.params import Train
from stages.inversion.train import train
from stages.models.acceleration import apply_kernels
from stages.models.device import DTYPES, configure_torch
from stages.models.loading import open_backbone
from stages.models.params import Concept, Model

VARIANTS = {  # the batch of diffusers' script, or `runtime` of ours
    "reference script, 1 x 4": 1,
    "reference script, 4 x 1": 4,
    "default": {},
    "default, again": {},
    "micro-batch 1": {"micro_batch": 1},
    "not deterministic": {"deterministic": False},
    "attention: sdpa": {"attention": "sdpa"},
    "not fused": {"fused_kernels": False},
    "compile: regional": {"compile": "regional"},
    "compile: full": {"compile": "full"},
    "memory_gib: 4": {"memory_gib": 4},
    "memory_gib: 8": {"memory_gib": 8},
    "memory_gib: 12": {"memory_gib": 12},
    "offload: true": {"offload": True},
}


def main() -> None:
    setting = {"precision": "fp16", "side": 0, "steps": 40, "t5": "train", "storage_dtype": None}
    setting |= {"variants": list(VARIANTS)[:8], "row": None, "folder": None}
    args = parse(__doc__, shape="sd15", reference=None, model=None, **setting)
    args.side = args.side or shapes.SIDES[args.shape]
    if args.row:
        print((measure_script if "reference" in args.row else measure)(args))
        return
    print(f"{machine()}; {args.shape}, {args.precision}, {args.side} px, batch 4, {args.steps} steps")
    print("\n| trainer | ms a step | 90th percentile | peak GiB | run s | note |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as args.folder:
        draw_images(Path(args.folder, "data/curated"), args.side)
        args.model = Path(args.model or shapes.build(args.shape, Path(args.folder, "model"))).resolve()
        for variant in args.variants:
            if args.reference or "reference" not in variant:
                print(f"| {variant} | {run_row('bench.train', args, row=variant)} |", flush=True)


def draw_images(folder: Path, side: int) -> None:
    """Write seven training images and three held-out ones, for both trainers."""
    random, counts = np.random.default_rng(0), {"train": 7, "holdout": 3}
    index = {part: [{"file": f"{part}/{i:02d}.png"} for i in range(count)] for part, count in counts.items()}
    for part, rows in index.items():
        (folder / part).mkdir(parents=True)
        for row in rows:
            Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / row["file"])
    (folder / "index.json").write_text(json.dumps({"class": "Thing", **index}))


def measure_script(args: argparse.Namespace) -> str:
    """Run diffusers' script, unchanged; `Accelerator.log`, which it calls at every step, records the time."""
    if importlib.util.find_spec("torchvision") is None:  # of which the script needs a flip only
        transforms = SimpleNamespace(RandomHorizontalFlip=lambda p: mirror_half)
        spec = importlib.util.spec_from_loader("torchvision", None)
        sys.modules["torchvision"] = SimpleNamespace(transforms=transforms, __spec__=spec)
    start, times, batch = time.monotonic(), {}, VARIANTS[args.row]
    Accelerator.log = lambda self, values, step=None, **_: times.update({step: time.perf_counter()})
    Accelerator.init_trackers = lambda self, *_, **__: None
    paths = {"pretrained_model_name_or_path": args.model, "train_data_dir": f"{args.folder}/data/curated/train"}
    tokens = {"placeholder_token": "<new>", "initializer_token": "dragon", "output_dir": f"{args.folder}/reference"}
    sizes = {"resolution": args.side, "train_batch_size": batch, "gradient_accumulation_steps": 4 // batch}
    recipe = {"max_train_steps": 14, "learning_rate": 5e-3, "mixed_precision": args.precision, "seed": 0}
    options = paths | tokens | sizes | recipe
    sys.argv = [args.reference, *(f"--{name}={value}" for name, value in options.items())]
    runpy.run_path(args.reference, run_name="__main__")
    return row([times[step] for step in sorted(times) if step], start)


def mirror_half(image: Image.Image) -> Image.Image:
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def row(times: list[float], start: float, note: str = "") -> str:
    """Return the cells of a row, given the times of its steps and of its start."""
    steps = sorted(1000 * (b - a) for a, b in itertools.pairwise(times[3:]))
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0
    median, high = statistics.median(steps), steps[int(0.9 * len(steps))]
    return f"{median:.1f} | {high:.1f} | {peak:.2f} | {time.monotonic() - start:.1f} | {note}"


def measure(args: argparse.Namespace) -> str:
    """Train, and return the cells of the row."""
    start, runtime = time.monotonic(), Runtime(**VARIANTS[args.row])
    device, concept = configure_torch(runtime), Concept(placeholder_token="<new>", initializer_token="dragon")
    intervals = {"validation_every": args.steps, "validation_timesteps": 2, "snapshot_every": 0}
    recipe = Train(steps=args.steps, learning_rate=5e-3, mixed_precision=args.precision, **intervals)
    model = Model(base=str(args.model), t5=args.t5, storage_dtype=args.storage_dtype)
    backbone = open_backbone(model, concept, device, DTYPES[args.precision], offload=runtime.offload)
    warnings, times = apply_kernels(backbone, runtime, args.steps), []
    callbacks = SimpleNamespace(**dict.fromkeys(("save_if_due", "stop_requested", "flush", "end"), lambda *_: False))
    callbacks.log = lambda step, **values: times.append(time.perf_counter()) if "loss" in values else None
    images, accelerator = curated_images(Path(args.folder, "data/curated")), Accelerator(cpu=device.type == "cpu")
    state = train(backbone, concept, recipe, runtime, images, accelerator=accelerator, callbacks=callbacks).state
    note = "; ".join([*warnings, f"embedding {hashlib.sha256(state.vectors.numpy().tobytes()).hexdigest()[:8]}"])
    return row(times, start, note)


if __name__ == "__main__":
    main()
