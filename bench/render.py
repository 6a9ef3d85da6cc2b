"""Images a second of the render stage beside diffusers' pipeline, on Stable Diffusion 1.5's shape.

python -m bench.render [--gpus 2]: the prompts of presets/charizard-sd15.yaml with the placeholder and the initializer
token. Every row is a process of its own (with --gpus, two processes share the images of the last row). The rate leaves
out the first batch, which compiles and captures; "run s" is the whole process. The last lines compare pixels.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file
from transformers import CLIPTextConfig

from bench import sd15
from bench.common import ROOT, environment, machine, parser
from stages.common.files import png_bytes
from stages.common.runtime import Runtime
from stages.models.device import configure_torch
from stages.models.noise import normal
from stages.models.params import Concept, Model
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.params import Render
from stages.rendering.sampling import ImageSampler

ROWS = {  # the batch of diffusers' pipeline, or `runtime` of ours
    "diffusers, one at a time": 1,
    "diffusers, batches of 16": 16,
    "ours": {},
    "ours, batches of 1": {"micro_batch": 1},
    "ours, memory_gib: 8": {"memory_gib": 8},
    "ours, attention: sdpa": {"attention": "sdpa"},
    "ours, not fused": {"fused_kernels": False, "compile": "off"},
}
FEW = 8  # images of the rows of one image at a time
SIZES = {"images": 48, "steps": 50, "side": 512}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, help="a model to use instead of random weights")
    options.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    options.add_argument("--gpus", type=int, default=1)
    for name, value in SIZES.items():
        options.add_argument(f"--{name}", type=int, default=value)
    for name in ("row", "rank", "folder"):
        options.add_argument(f"--{name}", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.row:
        print(json.dumps(measure(args, Path(args.folder), int(args.rank))))
        return
    print(f"{machine()}; {args.side} px, {args.steps} steps, {args.images} images")
    print("\n| renderer | images/s | to the first | batch | first batch s | run s | peak GiB |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        args.model = (args.model or sd15.build(Path(folder, "model"))).resolve()
        width, base = CLIPTextConfig.from_pretrained(args.model / "text_encoder").hidden_size, None
        save_file({"<new>": 0.02 * torch.randn(1, width)}, Path(folder, "embedding.safetensors"))
        for row, gpus in [*((row, 1) for row in args.rows), *[("ours", args.gpus)] * (args.gpus > 1)]:
            base = run_row(args, folder, row, gpus, base) or base
        compare(Path(folder))


def run_row(args: argparse.Namespace, folder: str, row: str, gpus: int, base: float | None) -> float | None:
    """Run a row in one process for each GPU and print it; return its rate, or None if it failed."""
    start, values = time.perf_counter(), vars(args) | {"gpus": gpus, "folder": folder, "row": row}
    shared = [f"--{name}={values[name]}" for name in ("row", "folder", "model", "gpus", *SIZES)]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = []
    for rank in range(gpus):
        env = environment() | ({"CUDA_VISIBLE_DEVICES": str(rank)} if gpus > 1 else {})
        command = [sys.executable, "-m", "bench.render", *shared, f"--rank={rank}"]
        processes.append(subprocess.Popen(command, env=env, **options))
    outputs = [process.communicate() for process in processes]
    name = row if gpus == 1 else f"{row}, {gpus} GPUs"
    if any(process.returncode for process in processes):
        print(f"| {name} | failed: {' '.join(error.strip()[-300:] for _, error in outputs)} |", flush=True)
        return None
    results = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    rate, first, seconds = sum(r["rate"] for r in results), results[0], time.perf_counter() - start
    times = f"{first['batch']} | {first['first_s']:.1f} | {seconds:.1f}"
    print(f"| {name} | {rate:.3g} | {rate / (base or rate):.2f} x | {times} | {first['peak_gib']:.2f} |", flush=True)
    return rate if base is None else base


def measure(args: argparse.Namespace, folder: Path, rank: int) -> dict:
    """Render the images of a row, save their pixels, and return its figures."""
    setting, start = ROWS[args.row], time.perf_counter()
    runtime = Runtime(**setting) if isinstance(setting, dict) else Runtime()
    device = configure_torch(runtime)
    prompts = YAML(typ="safe", pure=True).load((ROOT / "presets/charizard-sd15.yaml").read_text())["render"]["prompts"]
    seeds, precision = list(range(args.images // (2 * len(prompts)))), "fp16" if device.type == "cuda" else "fp32"
    size = {"steps": args.steps, "height": args.side, "width": args.side, "precision": precision}
    concept = Concept(placeholder_token="<new>", initializer_token="dragon")
    render = Render(prompts=prompts, seeds=seeds, **size)
    inputs = RenderInputs(Model(base=str(args.model)), concept, render, folder / "embedding.safetensors")
    jobs = sorted(inputs.jobs(), key=lambda job: job.seed)[rank :: args.gpus]
    jobs = jobs[:FEW] if setting in (1, {"micro_batch": 1}) else jobs
    ours = isinstance(setting, dict)
    batches = ImageSampler(inputs, runtime, device).batches(jobs) if ours else pipeline(inputs, jobs, setting, device)
    ends, sizes, pixels = [], [], {}
    with ThreadPoolExecutor(8) as threads:  # PNG files are encoded beside the GPU, as in the stage
        for batch in batches:
            ends.append(time.perf_counter())
            sizes.append(len(batch))
            for _, image in batch:
                threads.submit(png_bytes, image)
            pixels |= {job.file: np.asarray(image) for job, image in batch}
    np.savez(folder / f"{args.row}.{args.gpus}.{rank}", **pixels)
    rate = sum(sizes[1:]) / (ends[-1] - ends[0]) if sizes[1:] else sizes[0] / (ends[0] - start)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
    return {"rate": rate, "batch": sizes[0], "first_s": ends[0] - start, "peak_gib": peak}


def pipeline(
    inputs: RenderInputs, jobs: list[Job], size: int, device: torch.device
) -> Iterator[list[tuple[Job, Image.Image]]]:
    """Yield batches of diffusers' pipeline, called as in its documentation, from the same noise."""
    dtype, render = torch.float16 if device.type == "cuda" else torch.float32, inputs.render
    model = StableDiffusionPipeline.from_pretrained(inputs.model.base, torch_dtype=dtype).to(device)
    model.load_textual_inversion(str(inputs.embedding), token="<new>")
    model.set_progress_bar_config(disable=True)
    sides = (render.height // model.vae_scale_factor, render.width // model.vae_scale_factor)
    for batch in (jobs[i : i + size] for i in range(0, len(jobs), size)):
        noise = [normal(job.seed, "render", 0, 0, (model.unet.config.in_channels, *sides)) for job in batch]
        options = {"num_inference_steps": render.steps, "latents": torch.from_numpy(np.stack(noise)).to(device, dtype)}
        images = model([job.text for job in batch], guidance_scale=render.guidance_scale, **options).images
        yield list(zip(batch, images, strict=True))


def compare(folder: Path) -> None:
    """Print how far the pixels of every other row are from ours."""
    ours = np.load(folder / "ours.1.0.npz")
    print(f"\nstandard deviation of our pixels: {np.mean([ours[file].std() for file in ours]):.1f} levels")
    for path in sorted(folder.glob("*.1.0.npz")):
        other = np.load(path)
        distance = [np.abs(other[file].astype(int) - ours[file]) for file in other]
        print(
            f"{path.name.split('.1.0')[0]} from ours: mean {np.mean(distance):.3f}, maximum {np.max(distance)} levels"
        )


if __name__ == "__main__":
    main()
