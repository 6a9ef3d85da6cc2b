"""Our trainer in several variants, in one process: python -m bench.ours MODEL OUT PRECISION STEPS VARIANT...

A variant is a way and a micro-batch, such as graph4: graph (as the stage does it, a CUDA graph), eager (no graph),
twice (a graph, run again: the same bytes?), kernels (a graph under the profiler), or one of WAYS, which are graphs with
other `runtime` params. Each leaves a line in OUT/ours.jsonl, also one that fails.
"""

import gc
import itertools
import json
import statistics
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from stages.common.runtime import Runtime
from stages.inversion.callbacks import Surroundings
from stages.inversion.dataset import examples
from stages.inversion.diffusion_loss import Speed
from stages.inversion.params import Train
from stages.inversion.train import hasten, teach
from stages.models import device as machine
from stages.models.backbone import Backbone, open_backbone
from stages.models.params import Concept, Model

CONCEPT = Concept(placeholder_token="<new>", initializer_token="dragon")
GIB = 2**30
WAYS = {
    "plain": {"fused_kernels": False},
    "loose": {"deterministic": False},
    "plainloose": {"fused_kernels": False, "deterministic": False},
    "sdpa": {"attention": "sdpa"},
    "xformers": {"attention": "xformers"},
    "regional": {"compile": "regional"},
    "full": {"compile": "full"},
    "loosefull": {"compile": "full", "deterministic": False},
}
# Parts of the names of kernels => what they do; the first that fits.
KINDS = {
    "attention": ("flash", "fmha", "attention", "softmax", "sdpa"),
    "convolution": ("conv", "implicit", "wgrad", "dgrad", "fprop", "cudnn", "nchw", "nhwc"),
    "matrix product": ("gemm", "cutlass", "cublas", "nvjet", "splitk"),
    "norm": ("norm", "rowwise", "welford", "batch_norm"),
    "copy": ("memcpy", "memset", "copy", "cat_", "catarray"),
    "elementwise": ("elementwise", "gate", "residual", "triton", "vectorized", "reduce", "upsample"),
}


class Clock:
    """The trainer's surroundings: a time for every step, and a profiler around some of them."""

    def __init__(self, profiler: torch.profiler.profile | None = None) -> None:
        self.times: list[float] = []
        self._profiler = profiler

    def surroundings(self) -> Surroundings:
        return Surroundings(
            due=lambda: False,
            interrupted=lambda: False,
            save=lambda state: None,
            log=self._log,
            picture=lambda pixels, step: None,
            bar=lambda step, text: None,
        )

    def _log(self, values: dict[str, float], step: int) -> None:
        if "loss" not in values:
            return
        self.times.append(time.perf_counter())
        if self._profiler is not None and len(self.times) == 6:
            torch.cuda.synchronize()  # what was launched before is not of the five steps
            self._profiler.start()
        if self._profiler is not None and len(self.times) == 11:
            self._profiler.stop()


def main() -> None:
    """Measure the variants named on the command line."""
    model, out, precision, steps, *variants = sys.argv[1:]
    device = machine.select_device("auto")
    accelerator = Accelerator(cpu=device.type != "cuda")
    recipe = Train(
        steps=int(steps),
        learning_rate=5e-3,
        mixed_precision=precision,
        validation_every=int(steps),
        validation_timesteps=2,
        captions=["a photo of a {}", "the {}"],
    )
    machine.configure_torch(Runtime())
    rate = matmul(device, machine.DTYPES[precision])
    for variant in variants:
        way, micro = variant[:-1], int(variant[-1])
        row = {"name": f"ours {way}, micro-batch {micro}", "matmul_tflops": rate}
        began = time.perf_counter()
        try:
            row |= variety(model, (way, micro), recipe, Path(out), accelerator)
        except Exception as error:  # the other rows are still worth having
            traceback.print_exc()
            row["note"] = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
        row["total_s"] = time.perf_counter() - began
        with (Path(out) / "ours.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def variety(model: str, variant: tuple[str, int], recipe: Train, out: Path, accelerator: Accelerator) -> dict:
    """A way and a micro-batch => a row."""
    (way, micro), device = variant, machine.select_device("auto")
    cuda = device.type == "cuda"
    runtime = Runtime(micro_batch=micro, gradient_checkpointing=False, **WAYS.get(way, {}))
    machine.configure_torch(runtime)
    torch.compiler.reset()
    gc.collect()  # the last variant's model, which holds itself

    def opened() -> tuple[Backbone, Speed, str | None]:
        model_here = open_backbone(Model(base=model), CONCEPT, device, machine.DTYPES[recipe.mixed_precision])
        how, unmet = hasten(model_here, recipe.steps, runtime)
        return model_here, replace(how, graph=cuda and way != "eager"), unmet

    backbone, how, unmet = opened()
    profiler = torch.profiler.profile() if way == "kernels" else None
    row = measure(backbone, recipe, out, how, accelerator, profiler=profiler)
    row["note"] = unmet or row["note"]
    word = row.pop("bytes")
    if way == "twice":
        # The second run captures its own graph: same bytes without anything kept from the first.
        again, how, _ = opened()
        row["note"] = f"the same bytes twice: {measure(again, recipe, out, how, accelerator)['bytes'] == word}"
    if profiler is not None:
        kernels(profiler, row["step_ms"])
    return row


def measure(
    backbone: Backbone,
    recipe: Train,
    out: Path,
    how: Speed,
    accelerator: Accelerator,
    *,
    profiler: torch.profiler.profile | None = None,
) -> dict:
    """A model and a way => median time of a step past the warm-up, peak memory, and the word's bytes."""
    clock, cuda = Clock(profiler), backbone.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    state = teach(
        backbone,
        CONCEPT,
        recipe,
        examples(out / "data/curated"),
        how=how,
        crew=accelerator,
        found=None,
        around=clock.surroundings(),
    )
    steps = [1000 * (b - a) for a, b in itertools.pairwise(clock.times)][3:]
    row = {
        "step_ms": statistics.median(steps),
        "slow_ms": sorted(steps)[int(0.9 * len(steps))],
        "warm_up_s": clock.times[0] - began,
        "bytes": state.vectors.tobytes(),
        "note": f"{state.overflows} overflows",
    }
    if cuda:
        row |= {
            "peak_gib": torch.cuda.max_memory_allocated() / GIB,
            "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
        }
    return row


def kernels(profiler: torch.profiler.profile, step_ms: float) -> None:
    """Five profiled steps => a table of what the device did in one of them."""
    spent, kinds = Counter(), Counter()
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            spent[event.name] += event.self_device_time_total / 5000
    for name, milliseconds in spent.items():
        kinds[next((kind for kind, parts in KINDS.items() if any(p in name.lower() for p in parts)), "other")] += (
            milliseconds
        )
    print(f"\nmilliseconds of a step of {step_ms:.1f} ms, by kind of kernel (sum {sum(spent.values()):.1f}):")
    for name, milliseconds in [*kinds.most_common(), *spent.most_common(22)]:
        print(f"{milliseconds:8.3f}  {name[:150]}", flush=True)


def matmul(device: torch.device, dtype: torch.dtype) -> float:
    """=> TFLOP/s of a large product of random numbers on this device."""
    side = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(times[2:]) / 1e12


if __name__ == "__main__":
    main()
