"""Time our trainer in one variant of `runtime`: python -m bench.variant VARIANT FOLDER --model MODEL

Prints a row of bench.train as JSON.
"""

import argparse
import hashlib
import itertools
import json
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from bench.common import parser
from stages.common.runtime import Runtime
from stages.inversion.dataset import curated_images
from stages.inversion.params import Train
from stages.inversion.train import train
from stages.models.acceleration import apply_kernels
from stages.models.backbone import open_backbone
from stages.models.device import DTYPES, configure_torch
from stages.models.params import Concept, Model

VARIANTS = {
    "default": {},
    "default, again": {},
    "micro-batch 1": {"micro_batch": 1},
    "not deterministic": {"deterministic": False},
    "attention: sdpa": {"attention": "sdpa"},
    "not fused": {"fused_kernels": False},
    "compile: regional": {"compile": "regional"},
    "compile: full": {"compile": "full"},
    "memory_gib: 4": {"memory_gib": 4},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("variant", choices=VARIANTS)
    options.add_argument("folder", type=Path, help="a folder with data/curated")
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--precision", default="fp16", choices=("no", "fp16", "bf16"))
    options.add_argument("--steps", type=int, default=40)
    print(json.dumps(measure(options.parse_args())))


def measure(args: argparse.Namespace) -> dict:
    """Train, and return the times of the steps and the peak memory."""
    start, runtime = time.monotonic(), Runtime(**VARIANTS[args.variant])
    device, concept = configure_torch(runtime), Concept(placeholder_token="<new>", initializer_token="dragon")
    intervals = {"validation_every": args.steps, "validation_timesteps": 2, "snapshot_every": 0}
    recipe = Train(steps=args.steps, learning_rate=5e-3, mixed_precision=args.precision, **intervals)
    backbone = open_backbone(Model(base=str(args.model)), concept, device, DTYPES[args.precision])
    warnings, clock = apply_kernels(backbone, runtime, args.steps), Clock()
    images, accelerator = curated_images(args.folder / "data/curated"), Accelerator(cpu=device.type == "cpu")
    state = train(backbone, concept, recipe, runtime, images, accelerator=accelerator, callbacks=clock).state
    note = "; ".join([*warnings, f"embedding {hashlib.sha256(state.vectors.numpy().tobytes()).hexdigest()[:8]}"])
    steps = [1000 * (b - a) for a, b in itertools.pairwise(clock.times)]
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
    return {"steps_ms": steps, "peak_gib": peak, "total_s": time.monotonic() - start, "note": note}


class Clock:
    """Callbacks that record the time of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.save_if_due = self.stop_requested = self.flush = lambda *_: False

    def log(self, step: int, **values: float) -> None:
        if "loss" in values:
            self.times.append(time.perf_counter())


if __name__ == "__main__":
    main()
