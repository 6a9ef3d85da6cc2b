"""Learn creatures that have no name, and measure how well: python -m bench.word [--creatures 6 --seeds 8 --jobs 2].

Every creature is drawn by its own seed, and learned once per training seed with the default recipe or `--set` params.
With s(x) the mean CLIP similarity of images x to the held-out images, `recovered` is (s(placeholder) - s(initializer))
/ (s(training images) - s(initializer)) over the two prompts that name no scene. `of ceiling` is the same over all
prompts, with drawings of the creature in the scene and style of each prompt instead of the training images. `signs` is
the share of renders with the body, wing colour and tail of the creature, `scene` and `style` the share that follow the
prompt, relative to the initializer token's.
"""

import json
import statistics
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from bench.common import STARTER, machine, make_project, open_pipeline, parser, run_stage, summary, write_params
from stages.common.read_outs import read_image
from stages.inversion.dataset import curated_images
from starter import attribute_classifier
from starter.world.attributes import Creature, generator
from starter.world.creatures import sample_pose
from starter.world.dataset import build, creature_of
from starter.world.rendering import ImageSpec, render

PROMPTS = {  # the scene and the style that each prompt asks for
    "a photo of a {}": ("white", "cartoon"),
    "a {}": ("white", "cartoon"),
    "a {} at night": ("night", "cartoon"),
    "a {} by the sea": ("sea", "cartoon"),
    "a {} in the forest": ("forest", "cartoon"),
    "a {} in front of a volcano": ("volcano", "cartoon"),
    "a sketch of a {}": ("white", "sketch"),
    "a pastel painting of a {} in the snow": ("snow", "pastel"),
}
PLAIN = 2  # the first prompts name no scene, as the held-out images show none
SIGNS = ("body", "wing_colour", "tail")
SHOWN = ("recovered", "of ceiling", "signs", "scene", "style", "seconds")


class Evaluator:
    """Compare renders with the held-out images by CLIP, and with a creature and the prompts by the classifier."""

    def __init__(self, device: str, creature: Creature, holdout: list[Image.Image]) -> None:
        self.clip = CLIPModel.from_pretrained(STARTER / "clip", dtype=torch.float32).to(device)
        self.processor = CLIPProcessor.from_pretrained(STARTER / "clip")
        self.classifier = attribute_classifier.load().to(device)
        self.creature, self.holdout = asdict(creature), self.embed(holdout)

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """Convert images to B x 3 x 128 x 128 in -1..1, the input of both models."""
        return self.processor(images=images, return_tensors="pt").pixel_values.to(self.clip.device)

    @torch.no_grad()
    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        """Return normalized CLIP image embeddings, B x D."""
        pooled = self.clip.vision_model(pixel_values=self.pixels(images)).pooler_output
        return torch.nn.functional.normalize(self.clip.visual_projection(pooled), dim=1)

    def similarity(self, images: list[Image.Image]) -> torch.Tensor:
        """Return the cosine similarity to the held-out images, by prompt for images of all prompts."""
        return (self.embed(images) @ self.holdout.T).mean(1).view(-1, max(1, len(images) // len(PROMPTS))).mean(1).cpu()

    def attributes(self, images: list[Image.Image]) -> dict[str, float]:
        """Return the shares of renders that show the creature's signs, and the scene and style of their prompts."""
        count = len(images) // len(PROMPTS)
        expected = [{"scene": s, "style": t} for s, t in PROMPTS.values() for _ in range(count)]
        found = list(zip(self.classifier.predict(self.pixels(images)), expected, strict=True))
        shares = {key: statistics.mean(seen[key] == prompt[key] for seen, prompt in found) for key in expected[0]}
        signs = statistics.mean(all(seen[key] == self.creature[key] for key in SIGNS) for seen, _ in found)
        return {"signs": signs} | shares


def unnamed_creatures(count: int) -> list[str]:
    """Return names of creatures of different kinds with wings and a tail, as many as there are or `count`."""
    names: dict[str, str] = {}
    for name in (f"Unnamed{i}" for i in range(200)):
        creature = creature_of(name)
        if creature.wings != "no" and creature.tail != "plain":
            names.setdefault(creature.kind, name)
    return list(names.values())[:count]


def draw_ceiling(name: str, count: int) -> list[Image.Image]:
    """Draw a creature in the scene and style of every prompt."""
    images = []
    for number, (scene, style) in enumerate(style for style in PROMPTS.values() for _ in range(count)):
        rng = generator(zlib.crc32(f"{name} {number}".encode()), 99)
        spec = ImageSpec(creature_of(name), scene, style, "normal", sample_pose(rng), int(rng.integers(2**31)))
        images.append(render(spec))
    return images


def prepare(folder: Path, name: str, overrides: list[str], device: str) -> dict:
    """Make a project whose class is the creature, and curate its images unless that is done; return the params."""
    source = [f"dataset.path={folder}/source", "dataset.source=folder", f"filter.class={name}"]
    kind = f"concept.initializer_token={creature_of(name).kind}"
    params = make_project(folder, [*source, kind, *overrides], device)
    if not (folder / "data/curated").exists():
        build(folder / "source", name)
        for stage in ("download", "filter", "curate"):
            run_stage(folder, stage)
    return params


def render_prompts(pipeline, token: str, params: dict, count: int) -> list[Image.Image]:
    """Render `count` images per prompt; images with equal indices start from equal noise."""
    texts = [prompt.format(token) for prompt in PROMPTS for _ in range(count)]
    noise = [torch.Generator().manual_seed(i) for _ in PROMPTS for i in range(count)]
    options = {"num_inference_steps": params["steps"], "guidance_scale": params["guidance_scale"]}
    return pipeline(texts, generator=noise, **options).images


def train(project: Path, params: dict, seed: int) -> tuple[Path, dict]:
    """Train with a seed in a folder of its own; return the embedding's file, and train.json with the seconds."""
    folder = project / f"seed-{seed}"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name in ("starter", "data/curated"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(project / name)
    write_params(folder, params | {"train": params["train"] | {"seed": seed}})
    seconds = run_stage(folder, "train")
    result = json.loads((folder / "data/train.json").read_text())
    return folder / "data/embedding/learned_embeds.safetensors", result | {"seconds": seconds}


def measure(project: Path, name: str, params: dict, runs: list[tuple[Path, dict]], args) -> list[dict]:
    """Render with the embedding of every run; print and return a row for each."""
    pipeline = open_pipeline(args.device)
    curated = curated_images(project / "data/curated")
    holdout, training = (
        [read_image(image.file, "curate") for image in part] for part in (curated.holdout, curated.train)
    )
    evaluator = Evaluator(args.device, creature_of(name), holdout)
    placeholder, initializer = (params["concept"][key] for key in ("placeholder_token", "initializer_token"))
    renders = render_prompts(pipeline, initializer, params["render"], args.images)
    base, followed = evaluator.similarity(renders), evaluator.attributes(renders)
    real = evaluator.embed(training) @ evaluator.holdout.T
    real, ceiling, rows = real.mean().cpu(), evaluator.similarity(draw_ceiling(name, 2 * args.images)), []
    for seed, (file, trained) in enumerate(runs):
        if seed:
            pipeline.unload_textual_inversion(placeholder)
        pipeline.load_textual_inversion(file)
        renders = render_prompts(pipeline, placeholder, params["render"], args.images)
        found, shares = evaluator.similarity(renders), evaluator.attributes(renders)
        row = {"recovered": float((found - base)[:PLAIN].mean() / (real - base[:PLAIN].mean()))}
        row |= {"of ceiling": float((found - base).mean() / (ceiling - base).mean()), "signs": shares["signs"]}
        row |= {key: shares[key] / followed[key] for key in ("scene", "style")} | trained
        rows.append(row)
        figures = ", ".join(f"{key} {row[key]:.3g}" for key in SHOWN)
        print(f"{name} ({initializer}), seed {seed}: {figures}; start: {row['start']}", flush=True)
    return rows


def main() -> None:
    """Train every creature with every seed, and print the measurements."""
    options = parser(__doc__)
    options.add_argument("--creatures", type=int, default=6)
    options.add_argument("--seeds", type=int, default=8)
    options.add_argument("--images", type=int, default=3, help="renders per prompt")
    options.add_argument("--jobs", type=int, default=1, help="trainings side by side (OMP_NUM_THREADS=1 on a CPU)")
    options.add_argument("--device", default="cpu")
    options.add_argument("--work", type=Path, help="folder of the projects; curated images in it are used again")
    options.add_argument("--set", nargs="*", default=[], help="params to override, such as train.steps=300")
    args = options.parse_args()
    print(f"{machine()}, device {args.device}; {args.creatures} creatures x {args.seeds} seeds, {args.set}", flush=True)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(args.jobs) as pool:
        work, rows, pending = args.work or Path(temporary), [], []
        for name in unnamed_creatures(args.creatures):
            params = prepare(work.resolve() / name, name, args.set, args.device)
            runs = [pool.submit(train, work.resolve() / name, params, seed) for seed in range(args.seeds)]
            pending.append((name, params, runs))
        for name, params, runs in pending:
            rows += measure(work / name, name, params, [run.result() for run in runs], args)
    for key in SHOWN:
        print(f"{key}: {summary([row[key] for row in rows])}")
    for limit in (0.9, 0.8):
        print(f"recovered at least {limit}: {sum(row['recovered'] >= limit for row in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
