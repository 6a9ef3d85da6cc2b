"""What the built-in model can do, from its committed weights: python -m bench.starter [--prompts 500] [--device cpu].

Prints its sizes, how well the VAE rebuilds fresh pictures, how well the reader of attributes reads fresh drawings, how
often that reader finds in a picture what its prompt asked for, and the same for several samplers and numbers of steps.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from stages.rendering.pipeline import SAMPLERS
from starter import attribute_classifier
from starter.captions import SCENE_PHRASES, STYLE_PHRASES, article
from starter.labels import GROUPS, attribute_values
from starter.world.attributes import generator
from starter.world.rendering import ImageSpec, render, sample_spec

STARTER = Path("starter")
FRESH = 10_000_000  # seeds from here on were never trained on
COMPARED = ("ddim", "dpm++", "unipc")
ASKED = ("kind", "body", "wings", "wing_colour", "tail", "scene", "style")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=500, help="random prompts")
    parser.add_argument("--pictures", type=int, default=500, help="fresh pictures for the VAE")
    parser.add_argument("--drawings", type=int, default=2000, help="fresh drawings for the reader")
    parser.add_argument("--table", type=int, default=60, help="prompts for a row of the table of steps; 0: no table")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--sampler", choices=COMPARED, default="ddim")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    sizes()
    pipeline = open_pipeline(options.device)
    eyes = attribute_classifier.load().to(options.device)
    print(f"vae: mean PSNR {psnr(pipeline.vae, options.pictures):.2f} dB on {options.pictures} fresh pictures")
    for group, share in read_drawings(eyes, options.drawings, options.device).items():
        print(f"reader: {group:12} {share:.1%} right on {options.drawings} fresh drawings")
    way = (options.sampler, options.steps, options.guidance)
    if options.prompts:
        print(f"prompts: {options.prompts} random ones; sampler, steps, guidance: {way}")
        found, seconds = follow(pipeline, eyes, options.prompts, way)
        for group, (share, said) in found.items():
            print(f"prompts: {group:12} {share:.1%} of {said}")
        print(f"prompts: {seconds:.3f} s a picture on {options.device}")
    if options.table:
        table(pipeline, eyes, options.table, options.guidance)


def sizes() -> None:
    """Print what the weights weigh."""
    files = [p for part in ("model", "clip", "classifier") for p in sorted((STARTER / part).rglob("*.safetensors"))]
    for path in files:
        print(f"size: {path.relative_to(STARTER)} {path.stat().st_size / 1e6:.2f} MB")
    print(f"size: all weights {sum(p.stat().st_size for p in files) / 1e6:.1f} MB")


def open_pipeline(device: str) -> StableDiffusionPipeline:
    """=> the committed model, float32."""
    pipeline = StableDiffusionPipeline.from_pretrained(STARTER / "model", torch_dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def fresh(count: int) -> list[ImageSpec]:
    """=> specs whose seeds were never trained on."""
    return [sample_spec(FRESH + i) for i in range(count)]


def tensor(specs: list[ImageSpec], device: str) -> torch.Tensor:
    """specs => B x 3 x 128 x 128 in -1..1."""
    pixels = np.stack([np.asarray(render(spec)) for spec in specs])
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def psnr(vae: torch.nn.Module, count: int) -> float:
    """=> mean over fresh pictures of the peak signal-to-noise ratio, in dB, of what comes back."""
    found = []
    for start in range(0, count, 20):
        x = tensor(fresh(count)[start : start + 20], vae.device)
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        found.append(-10 * ((y - x) / 2).pow(2).mean((1, 2, 3)).log10())
    return float(torch.cat(found).mean())


def read_drawings(eyes: attribute_classifier.AttributeClassifier, count: int, device: str) -> dict[str, float]:
    """=> for each group of attributes, how often the reader is right about a fresh drawing."""
    specs, right = fresh(count), dict.fromkeys(GROUPS, 0)
    for start in range(0, count, 50):
        part = specs[start : start + 50]
        for spec, said in zip(part, eyes.predict(tensor(part, device)), strict=True):
            for group, value in attribute_values(spec).items():
                right[group] += said[group] == value
    return {group: hits / count for group, hits in right.items()}


def prompt(spec: ImageSpec) -> tuple[str, dict[str, str]]:
    """A fresh spec => a sentence that says what it shows, and the attributes that the sentence says."""
    rng, creature, true = generator(spec.seed, 21), spec.creature, attribute_values(spec)
    wings = "no wings" if creature.wings == "no" else f"{creature.wing_colour} {creature.wings} wings"
    tail = "" if creature.tail == "plain" else f" and {article(f'{creature.tail} tail')}"
    words = article(f"{creature.body} {creature.kind} with {wings}{tail}")
    if spec.style != "cartoon":
        words = f"{rng.choice(STYLE_PHRASES[spec.style])} {words}"
    said = {group: true[group] for group in ASKED if group != "tail" or tail}
    if creature.wings == "no":
        said.pop("wing_colour")
    return f"{words} {rng.choice(SCENE_PHRASES[spec.scene])}", said


def follow(pipeline, eyes, count: int, way: tuple[str, int, float]) -> tuple[dict, float]:
    """Random prompts => for each group (share found in the picture, prompts that said it), and seconds a picture."""
    sampler, steps, guidance = way
    pipeline.scheduler = SAMPLERS[sampler].from_config(pipeline.scheduler.config)
    asked, hits, spent = dict.fromkeys(ASKED, 0), dict.fromkeys(ASKED, 0), 0.0
    batch = 10 if pipeline.device.type == "cpu" else 100
    prompts = [prompt(spec) for spec in fresh(count)]
    for start in range(0, count, batch):
        part = prompts[start : start + batch]
        noise = [torch.Generator().manual_seed(FRESH + start + i) for i in range(len(part))]
        began = time.perf_counter()
        pictures = pipeline(
            [words for words, _ in part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="pt",
        ).images
        seen = eyes.predict(pictures.float() * 2 - 1)
        spent += time.perf_counter() - began
        for (_, said), found in zip(part, seen, strict=True):
            for group, value in said.items():
                asked[group] += 1
                hits[group] += found[group] == value
    return {group: (hits[group] / max(asked[group], 1), asked[group]) for group in ASKED}, spent / count


def table(pipeline, eyes, count: int, guidance: float) -> None:
    """Print quality against steps, and against guidance."""
    print(f"| sampler | steps | guidance | {' | '.join(ASKED)} | s a picture |")
    print("| --- " * (len(ASKED) + 4) + "|")
    rows = [(sampler, steps, guidance) for sampler in COMPARED for steps in (5, 10, 20, 40)]
    rows += [("ddim", 20, other) for other in (1.0, 2.0, 3.0, 6.0)]
    for sampler, steps, scale in rows:
        found, seconds = follow(pipeline, eyes, count, (sampler, steps, scale))
        shares = " | ".join(f"{found[group][0]:.0%}" for group in ASKED)
        print(f"| {sampler} | {steps} | {scale:g} | {shares} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
