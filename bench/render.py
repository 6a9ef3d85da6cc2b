"""Images a second of the render stage beside diffusers' pipeline, on the shape of a model.

python -m bench.render [--gpus 2]: the prompts of presets/charizard-sd15.yaml with the placeholder and the initializer
token. Every row is a process of its own; with --gpus, processes share the images of the last row. The rate leaves out
the first batch, which compiles and captures; "run s" is the whole process. The last lines compare pixels. --shape is
one of bench.shapes, --model a folder instead of random weights, --side in pixels (0: the shape's own). --row, --rank
and --folder are for those processes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from bench import shapes
from bench.common import ROOT, machine, parse, run_row
from stages.common.files import png_bytes
from stages.common.params import read
from stages.common.runtime import Runtime
from stages.models.device import configure_torch
from stages.models.params import Concept, Model
from stages.models.philox import normal
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.load_embedding import load_embedding
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


def main() -> None:
    setting = {"gpus": 1, "images": 48, "steps": 50, "side": 0, "row": None, "rank": 0, "folder": None}
    args = parse(__doc__, shape="sd15", model=None, rows=list(ROWS), **setting)
    args.side = args.side or shapes.SIDES[args.shape]
    if args.row:
        print(json.dumps(measure(args, Path(args.folder), args.rank)))
        return
    print(f"{machine()}; {args.shape}, {args.side} px, {args.steps} steps, {args.images} images")
    print("\n| renderer | images/s | to the first | batch | first batch s | run s | peak GiB |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        args.folder, base = folder, None
        args.model = Path(args.model or shapes.build(args.shape, Path(folder, "model"))).resolve()
        tables = (
            {"<new>": "text_encoder"}
            if args.shape == "sd15"
            else {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
        )
        sizes = {name: json.loads((args.model / part / "config.json").read_text()) for name, part in tables.items()}
        vectors = {name: 0.02 * torch.randn(1, config["hidden_size"]) for name, config in sizes.items()}
        save_file(vectors, Path(folder, "embedding.safetensors"))
        for row, gpus in [*((row, 1) for row in args.rows), *[("ours", args.gpus)] * (args.gpus > 1)]:
            base = report(args, row, gpus, base)
        compare(Path(folder))


def report(args: argparse.Namespace, row: str, gpus: int, base: float | None) -> float | None:
    """Run a row in one process for each GPU, and print it; return the rate of the first row."""
    start, start_rank = time.perf_counter(), partial(run_row, "bench.render", args, row=row, gpus=gpus)
    with ThreadPoolExecutor(gpus) as threads:
        outputs = list(threads.map(lambda rank: start_rank(rank=rank), range(gpus)))
    if failed := [output for output in outputs if output.startswith("failed")]:
        print(f"| {row} | {failed[0]} |", flush=True)
        return base
    results = list(map(json.loads, outputs))
    rate, seconds = sum(result["rate"] for result in results), time.perf_counter() - start
    rest = f"{results[0]['batch']} | {results[0]['first_s']:.1f} | {seconds:.1f} | {results[0]['peak_gib']:.2f}"
    print(f"| {row}, {gpus} GPU | {rate:.3g} | {rate / (base or rate):.2f} x | {rest} |", flush=True)
    return base or rate


def measure(args: argparse.Namespace, folder: Path, rank: int) -> dict:
    """Render the images of a row, save their pixels, and return its figures."""
    setting, start = ROWS[args.row], time.perf_counter()
    runtime = Runtime() if isinstance(setting, int) else Runtime(**setting)
    device, concept = configure_torch(runtime), Concept(placeholder_token="<new>", initializer_token="dragon")
    prompts = read(ROOT / "presets/charizard-sd15.yaml")["render"]["prompts"]
    seeds = list(range(args.images // (2 * len(prompts))))
    render = Render(prompts=prompts, seeds=seeds, steps=args.steps, height=args.side, width=args.side)
    inputs = RenderInputs(Model(base=str(args.model)), concept, render, folder / "embedding.safetensors")
    jobs = sorted(inputs.jobs(), key=lambda job: job.seed)[rank :: args.gpus]
    ours = not isinstance(setting, int)
    batches = ImageSampler(inputs, runtime, device).batches(jobs) if ours else pipeline(inputs, jobs, setting, device)
    ends, counts, pixels = [], [], {}
    with ThreadPoolExecutor(8) as threads:  # PNG files are encoded beside the GPU, as in the stage
        for batch in batches:
            ends.append(time.perf_counter())
            counts.append(len(batch))
            for job, image in batch:
                threads.submit(png_bytes, image)
                pixels[job.file] = np.asarray(image)
    np.savez(folder / f"{args.row}.{args.gpus}.{rank}", **pixels)
    rate = sum(counts[1:]) / (ends[-1] - ends[0]) if counts[1:] else counts[0] / (ends[0] - start)
    memory = torch.cuda.max_memory_allocated() / 2**30
    return {"rate": rate, "batch": counts[0], "first_s": ends[0] - start, "peak_gib": memory}


def pipeline(inputs: RenderInputs, jobs: list[Job], size: int, device: torch.device) -> Iterator[list[tuple]]:
    """Yield batches of diffusers' pipeline, called as in its documentation, from the same noise."""
    dtype, render = torch.float16 if device.type == "cuda" else torch.float32, inputs.render
    model = DiffusionPipeline.from_pretrained(inputs.model.base, dtype=dtype).to(device)
    load_embedding(model, inputs.embedding, "<new>")
    model.set_progress_bar_config(disable=True)
    denoiser = getattr(model, "unet", None) or model.transformer
    shape = (denoiser.config.in_channels, *(side // model.vae_scale_factor for side in (render.height, render.width)))
    for batch in (jobs[i : i + size] for i in range(0, len(jobs), size)):
        noise = torch.from_numpy(np.stack([normal(job.seed, "render", 0, 0, shape) for job in batch]))
        options = {"num_inference_steps": render.steps, "guidance_scale": render.guidance_scale}
        images = model([job.text for job in batch], latents=noise.to(device, dtype), **options).images
        yield list(zip(batch, images, strict=True))


def compare(folder: Path) -> None:
    """Print how far the pixels of every other row are from ours on one GPU."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(folder.glob("*.npz")):  # row.gpus.rank.npz
        rows.setdefault(path.stem.rpartition(".")[0], {}).update(np.load(path))
    ours = rows.pop("ours.1")
    for name, images in rows.items():
        distance = np.concatenate([np.abs(images[file].astype(int) - image) for file, image in ours.items()])
        row, _, gpus = name.rpartition(".")
        print(f"{row}, {gpus} GPU: {distance.mean():.3f} levels from ours on average, at most {distance.max()}")


if __name__ == "__main__":
    main()
