"""Measure the built-in model on images and prompts of unseen seeds: python -m bench.starter [--device cpu].

Prints the sizes of the weights, the PSNR of the VAE, the accuracy of the attribute classifier on drawings, and a table
of how often renders show the attributes of their prompts: --prompts in the first row, which --sampler, --steps and
--guidance choose, and --table in rows of several samplers, numbers of steps and guidance scales.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UniPCMultistepScheduler
from PIL import Image

from bench.common import STARTER, machine, parse
from starter import attribute_classifier
from starter.captions import SCENE_PHRASES, STYLE_PHRASES, article
from starter.labels import GROUPS, attribute_values
from starter.world.attributes import generator
from starter.world.rendering import ImageSpec, render, sample_spec

UNSEEN = 10_000_000  # seeds from here on are in no training set
SAMPLERS = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}
PROMPT_GROUPS = ("kind", "body", "wings", "wing_colour", "tail", "scene", "style")


def open_pipeline(device: str) -> StableDiffusionPipeline:
    """Load the built-in model in float32."""
    pipeline = StableDiffusionPipeline.from_pretrained(STARTER / "model", dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def to_tensor(images: list[Image.Image], device: str) -> torch.Tensor:
    """Convert RGB images of one size to B x 3 x H x W in -1..1."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2) / 127.5 - 1


def unseen_images(count: int, device: str, batch: int = 25) -> Iterator[torch.Tensor]:
    """Yield batches of drawings, B x 3 x 128 x 128 in -1..1."""
    for start in range(0, count, batch):
        seeds = range(UNSEEN + start, UNSEEN + min(start + batch, count))
        yield to_tensor([render(sample_spec(seed)) for seed in seeds], device)


@torch.no_grad()
def mean_psnr(vae: torch.nn.Module, count: int) -> float:
    """Return the mean peak signal-to-noise ratio of reconstructions, in dB."""
    reconstructions = ((x, vae.decode(vae.encode(x).latent_dist.mean).sample) for x in unseen_images(count, vae.device))
    errors = [((y.clamp(-1, 1) - x) / 2).pow(2).mean((1, 2, 3)) for x, y in reconstructions]
    return float(-10 * torch.cat(errors).log10().mean())


def accuracy(predictions: list[dict], targets: list[dict], groups) -> dict[str, str]:
    """Return for each group the share of the targets that are predicted; a target may lack groups."""
    pairs = list(zip(predictions, targets, strict=True))
    hits = {group: [found[group] == target[group] for found, target in pairs if group in target] for group in groups}
    return {group: f"{sum(x) / len(x):.1%} of {len(x)}" if x else "-" for group, x in hits.items()}


def sample_prompt(spec: ImageSpec) -> tuple[str, dict[str, str]]:
    """Return a prompt that describes an image, and the attributes that it mentions."""
    rng, creature = generator(spec.seed, 21), spec.creature
    wings = "no wings" if creature.wings == "no" else f"{creature.wing_colour} {creature.wings} wings"
    tail = "" if creature.tail == "plain" else f" and {article(f'{creature.tail} tail')}"
    text = article(f"{creature.body} {creature.kind} with {wings}{tail}")
    if spec.style != "cartoon":
        text = f"{rng.choice(STYLE_PHRASES[spec.style])} {text}"
    mentioned = {group: value for group, value in attribute_values(spec).items() if group in PROMPT_GROUPS}
    for group in ["tail"] * (not tail) + ["wing_colour"] * (creature.wings == "no"):
        del mentioned[group]
    return f"{text} {rng.choice(SCENE_PHRASES[spec.scene])}", mentioned


def follow_prompts(pipeline, classifier, row: tuple[int, str, int, float]) -> tuple[dict, float]:
    """Render prompts; return the accuracy of the attributes that they mention, and the seconds per image."""
    count, sampler, steps, guidance = row
    pipeline.scheduler = SAMPLERS[sampler].from_config(pipeline.scheduler.config)
    texts, targets = zip(*(sample_prompt(sample_spec(UNSEEN + i)) for i in range(count)), strict=True)
    options = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "pt"}
    predictions, batch, start = [], 10 if pipeline.device.type == "cpu" else 100, time.perf_counter()
    for i in range(0, count, batch):
        noise = [torch.Generator().manual_seed(UNSEEN + j) for j in range(i, min(i + batch, count))]
        images = pipeline(list(texts[i : i + batch]), generator=noise, **options).images
        predictions += classifier.predict(images.float() * 2 - 1)
    return accuracy(predictions, targets, PROMPT_GROUPS), (time.perf_counter() - start) / count


def main() -> None:
    sizes = {"prompts": 500, "table": 60, "vae-images": 500, "classifier-images": 2000}
    args = parse(__doc__, **sizes, sampler="ddim", steps=20, guidance=4.0, device="cpu")
    print(f"{machine()}, device {args.device}")
    files = sorted(STARTER.rglob("*.safetensors"))
    for path in files:
        print(f"size: {path.relative_to(STARTER)} {path.stat().st_size / 1e6:.2f} MB")
    print(f"size: all weights {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")
    pipeline, classifier = open_pipeline(args.device), attribute_classifier.load().to(args.device)
    print(f"vae: mean PSNR {mean_psnr(pipeline.vae, args.vae_images):.2f} dB on {args.vae_images} unseen images")
    targets = [attribute_values(sample_spec(UNSEEN + i)) for i in range(args.classifier_images)]
    predictions = [row for x in unseen_images(len(targets), args.device) for row in classifier.predict(x)]
    for group, share in accuracy(predictions, targets, GROUPS).items():
        print(f"classifier: {group:12} {share} unseen drawings")
    print(f"\n| prompts | sampler | steps | guidance | {' | '.join(PROMPT_GROUPS)} | s per image |")
    print("| --- | --- |" + " ---: |" * (len(PROMPT_GROUPS) + 3))
    rows = [(args.prompts, args.sampler, args.steps, args.guidance)]
    rows += [(args.table, sampler, steps, args.guidance) for sampler in SAMPLERS for steps in (5, 10, 20, 40)]
    rows += [(args.table, "ddim", 20, guidance) for guidance in (1.0, 2.0, 3.0, 6.0)]
    for row in filter(lambda row: row[0], rows):
        shares, seconds = follow_prompts(pipeline, classifier, row)
        print(f"| {' | '.join(map(str, (*row, *shares.values())))} | {seconds:.3f} |", flush=True)


if __name__ == "__main__":
    main()
