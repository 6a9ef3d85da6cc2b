"""Time our trainer in one variant of `runtime`, in this process: python -m bench.variant VARIANT FOLDER --model MODEL

Prints a row of bench.train as JSON; the variant `profile` prints the time of each kind of GPU kernel before it.
"""

import argparse
import hashlib
import itertools
import json
import time
from collections import Counter
from pathlib import Path

import torch
from accelerate import Accelerator

from stages.common.runtime import Runtime
from stages.inversion.dataset import curated_images
from stages.inversion.params import Train
from stages.inversion.train import train
from stages.models.acceleration import apply_kernels
from stages.models.backbone import open_backbone
from stages.models.device import DTYPES, configure_torch
from stages.models.params import Concept, Model

CONCEPT = Concept(placeholder_token="<new>", initializer_token="dragon")
VARIANTS = {
    "default": {},
    "default, again": {},
    "micro-batch 1": {"micro_batch": 1},
    "not deterministic": {"deterministic": False},
    "attention: sdpa": {"attention": "sdpa"},
    "not fused": {"fused_kernels": False},
    "compile: regional": {"compile": "regional"},
    "compile: full": {"compile": "full"},
    "profile": {},
}
KINDS = {
    "attention": ("flash", "fmha", "attention", "softmax", "sdpa"),
    "convolution": ("conv", "implicit", "dgrad", "fprop", "cudnn", "nhwc"),
    "matrix product": ("gemm", "cutlass", "cublas", "nvjet", "splitk"),
    "norm": ("norm", "welford"),
    "copy": ("memcpy", "memset", "copy", "cat"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("folder", type=Path, help="a folder with data/curated")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", default="fp16", choices=("no", "fp16", "bf16"))
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    print(json.dumps(measure(args)))


def measure(args: argparse.Namespace) -> dict:
    """Train, and return the times of the steps and the peak memory."""
    runtime = Runtime(**VARIANTS[args.variant])
    recipe = Train(
        steps=args.steps,
        learning_rate=5e-3,
        mixed_precision=args.precision,
        validation_every=args.steps,
        validation_timesteps=2,
        snapshot_every=0,
        captions=["a photo of a {}", "the {}"],
    )
    start, device = time.monotonic(), configure_torch(runtime)
    backbone = open_backbone(Model(base=str(args.model)), CONCEPT, device, DTYPES[args.precision])
    warnings = apply_kernels(backbone, runtime, args.steps)
    clock = Clock(profiled=args.variant == "profile")
    images = curated_images(args.folder / "data/curated")
    accelerator = Accelerator(cpu=device.type == "cpu")
    state = train(backbone, CONCEPT, recipe, runtime, images, accelerator=accelerator, callbacks=clock).state
    row = {"steps_ms": [1000 * (b - a) for a, b in itertools.pairwise(clock.times)]}
    row["note"] = "; ".join([*warnings, f"embedding {hashlib.sha256(state.vectors.numpy().tobytes()).hexdigest()[:8]}"])
    if device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row | {"total_s": time.monotonic() - start}


class Clock:
    """Callbacks that record the time of every step; optionally with a profile of five of them."""

    def __init__(self, profiled: bool) -> None:
        self.times: list[float] = []
        self._profiler = torch.profiler.profile() if profiled else None

    def log(self, step: int, **values: float) -> None:
        if "loss" not in values:
            return
        self.times.append(time.perf_counter())
        if self._profiler and step == 10:
            self._profiler.start()
        if self._profiler and step == 15:
            torch.cuda.synchronize()
            self._profiler.stop()
            print_profile(self._profiler, steps=5)

    def checkpoint_due(self) -> bool:
        return False

    def stop_requested(self) -> bool:
        return False

    def flush(self) -> None:
        pass


def print_profile(profiler: torch.profiler.profile, steps: int) -> None:
    """Print the milliseconds a step that the GPU spends in each kind of kernel."""
    kinds = Counter()
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name = event.name.lower()
            kind = next(
                (kind for kind, parts in KINDS.items() if any(p in name for p in parts)), "elementwise and other"
            )
            kinds[kind] += event.self_device_time_total / 1000 / steps
    print("; ".join(f"{kind} {milliseconds:.1f} ms" for kind, milliseconds in kinds.most_common()))


if __name__ == "__main__":
    main()
