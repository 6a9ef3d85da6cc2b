"""Learn creatures that have no name, and measure how well: python -m bench.word [--creatures 6 --seeds 8 --jobs 2].

Every creature is drawn by its own seed, and learned once per training seed with the default recipe or `--set` params.
With s(x) the mean CLIP similarity of images x to the held-out images, `recovered` is (s(placeholder) - s(initializer))
/ (s(training images) - s(initializer)) over the two prompts that name no scene. `of ceiling` is the same over all
prompts, with drawings of the creature in the scene and style of each prompt instead of the training images. `signs` is
the share of renders with the body, wing colour and tail of the creature; `scene`, `style` and `attributes` the share
with what the prompt asks for, relative to the initializer token's. Prompts for attributes count in these three only.
--images are renders per prompt, --jobs trainings side by side (with OMP_NUM_THREADS=1 on a CPU), --work a folder whose
curated images are used again, --set params such as train.steps=300.
"""

import json
import statistics
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.common import STARTER, machine, make_project, parse, run
from bench.starter import open_pipeline, to_tensor
from stages.common.read_outs import read_image
from stages.inversion.dataset import curated_images
from stages.scoring.encoders import Clip
from starter import attribute_classifier
from starter.world.attributes import Creature, generator
from starter.world.creatures import sample_pose
from starter.world.dataset import build, creature_of
from starter.world.rendering import ImageSpec, render

PROMPTS = {  # what each prompt asks for
    "a photo of a {}": {"scene": "white", "style": "cartoon"},
    "a {}": {"scene": "white", "style": "cartoon"},
    "a {} at night": {"scene": "night", "style": "cartoon"},
    "a {} by the sea": {"scene": "sea", "style": "cartoon"},
    "a {} in the forest": {"scene": "forest", "style": "cartoon"},
    "a {} in front of a volcano": {"scene": "volcano", "style": "cartoon"},
    "a sketch of a {}": {"scene": "white", "style": "sketch"},
    "a pastel painting of a {} in the snow": {"scene": "snow", "style": "pastel"},
    "a red {} at night": {"body": "red", "scene": "night"},
    "a {} with butterfly wings by the sea": {"wings": "butterfly", "scene": "sea"},
    "a small {} with one horn and a star tail in the snow": {"size": "small", "horns": "one", "tail": "star"},
    "a pencil drawing of a large {} among the trees": {"style": "sketch", "size": "large", "scene": "forest"},
    "a neon drawing of a {} with blue wings near a volcano": {"style": "neon", "wing_colour": "blue"},
    "a pastel picture of a green {} in winter": {"style": "pastel", "body": "green", "scene": "snow"},
}
SCENES = 8  # the first prompts ask for a scene and a style,
PLAIN = 2  # and the first of these for those of the held-out images
SIGNS = ("body", "wing_colour", "tail")
FOLLOWED = ("scene", "style", "attributes")
SHOWN = ("recovered", "of ceiling", "signs", *FOLLOWED, "seconds")


class Evaluator:
    """Compare renders with the held-out images by CLIP, and with a creature and the prompts by the classifier."""

    def __init__(self, device: str, creature: Creature, holdout: list[Image.Image]) -> None:
        self.clip = Clip(str(STARTER / "clip"), torch.device(device))
        self.classifier, self.device = attribute_classifier.load().to(device), device
        self.creature, self.holdout = asdict(creature), self.clip.images(holdout)

    def similarity(self, images: list[Image.Image], count: int) -> np.ndarray:
        """Return the mean cosine similarity to the held-out images (SCENES), of `count` images per prompt."""
        return (self.clip.images(images[: SCENES * count]) @ self.holdout.T).reshape(SCENES, -1).mean(axis=1)

    def attributes(self, images: list[Image.Image], count: int) -> dict[str, float]:
        """Return the shares of images (`count` per prompt) with the signs, and with what their prompts ask for."""
        found = self.classifier.predict(to_tensor(images, self.device))
        met = {key: [] for key in FOLLOWED}
        for i, row in enumerate(found):
            for key, value in list(PROMPTS.values())[i // count].items():
                met[key if key in FOLLOWED else "attributes"].append(row[key] == value)
        met["signs"] = [all(row[key] == self.creature[key] for key in SIGNS) for row in found[: SCENES * count]]
        return {key: statistics.mean(values) for key, values in met.items()}


def unnamed_creatures(count: int) -> list[str]:
    """Return names of creatures of different kinds with wings and a tail, as many as there are or `count`."""
    names: dict[str, str] = {}
    for name in (f"Unnamed{i}" for i in range(200)):
        creature = creature_of(name)
        if creature.wings != "no" and creature.tail != "plain":
            names.setdefault(creature.kind, name)
    return list(names.values())[:count]


def draw_ceiling(name: str, count: int) -> list[Image.Image]:
    """Draw a creature `count` times in the scene and style of each prompt that asks for no attribute."""
    images = []
    for number in range(SCENES * count):
        wanted, rng = list(PROMPTS.values())[number // count], generator(zlib.crc32(f"{name} {number}".encode()), 99)
        scene, style, pose = wanted["scene"], wanted["style"], sample_pose(rng)
        spec = ImageSpec(creature_of(name), scene, style, "normal", pose, int(rng.integers(2**31)))
        images.append(render(spec))
    return images


def prepare(folder: Path, name: str, overrides: list[str], device: str) -> list[str]:
    """Make a project whose class is the creature, and curate its images unless that is done; return its overrides."""
    source = [f"dataset.path={folder}/source", "dataset.source=folder", f"filter.class={name}"]
    overrides = [*source, f"concept.initializer_token={creature_of(name).kind}", *overrides]
    make_project(folder, overrides, device)
    if not (folder / "data/curated").exists():
        build(folder / "source", name)
        for stage in ("download", "filter", "curate"):
            run([f"stages.{stage}"], folder)
    return overrides


def render_prompts(pipeline, token: str, params: dict, count: int) -> list[Image.Image]:
    """Render `count` images per prompt; images with equal indices start from equal noise."""
    texts = [prompt.format(token) for prompt in PROMPTS for _ in range(count)]
    noise = [torch.Generator().manual_seed(i) for _ in PROMPTS for i in range(count)]
    options = {"num_inference_steps": params["steps"], "guidance_scale": params["guidance_scale"]}
    return pipeline(texts, generator=noise, **options).images


def train(project: Path, overrides: list[str], device: str, seed: int) -> tuple[Path, dict]:
    """Train with a seed in a folder of its own; return the embedding's file, and train.json with the seconds."""
    folder, start = project / f"seed-{seed}", time.perf_counter()
    make_project(folder, [*overrides, f"train.seed={seed}"], device)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/curated").unlink(missing_ok=True)
    (folder / "data/curated").symlink_to(project / "data/curated")
    run(["stages.train"], folder)
    result = json.loads((folder / "data/train.json").read_text())
    return folder / "data/embedding/learned_embeds.safetensors", result | {"seconds": time.perf_counter() - start}


def measure(project: Path, name: str, params: dict, runs: list[tuple[Path, dict]], args) -> list[dict]:
    """Render with the embedding of every run; print and return a row for each."""
    pipeline, curated = open_pipeline(args.device), curated_images(project / "data/curated")
    parts = (curated.holdout, curated.train)
    holdout, training = ([read_image(image.file, "curate") for image in part] for part in parts)
    evaluator = Evaluator(args.device, creature_of(name), holdout)
    placeholder, initializer = (params["concept"][key] for key in ("placeholder_token", "initializer_token"))
    renders = render_prompts(pipeline, initializer, params["render"], args.images)
    base, followed = evaluator.similarity(renders, args.images), evaluator.attributes(renders, args.images)
    real, ceiling = evaluator.clip.images(training) @ evaluator.holdout.T, draw_ceiling(name, 2 * args.images)
    real, ceiling, rows = real.mean(), evaluator.similarity(ceiling, 2 * args.images), []
    for seed, (file, trained) in enumerate(runs):
        if seed:
            pipeline.unload_textual_inversion(placeholder)
        pipeline.load_textual_inversion(file)
        renders = render_prompts(pipeline, placeholder, params["render"], args.images)
        found, shares = evaluator.similarity(renders, args.images), evaluator.attributes(renders, args.images)
        row = {"recovered": (found - base)[:PLAIN].mean() / (real - base[:PLAIN].mean())}
        row |= {"of ceiling": (found - base).mean() / (ceiling - base).mean(), "signs": shares["signs"]}
        row |= {key: shares[key] / followed[key] for key in FOLLOWED} | trained
        rows.append(row)
        figures = ", ".join(f"{key} {row[key]:.3g}" for key in SHOWN)
        print(f"{name} ({initializer}), seed {seed}: {figures}; start: {row['start']}", flush=True)
    return rows


def main() -> None:
    """Train every creature with every seed, and print the measurements."""
    args = parse(__doc__, creatures=6, seeds=8, images=3, jobs=1, device="cpu", work=None, set=[""])
    args.set = [override for override in args.set if override]
    print(f"{machine()}, device {args.device}; {args.creatures} creatures x {args.seeds} seeds, {args.set}", flush=True)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(args.jobs) as pool:
        work, rows, pending = Path(args.work or temporary).resolve(), [], []
        for name in unnamed_creatures(args.creatures):
            overrides = prepare(work / name, name, args.set, args.device)
            runs = [pool.submit(train, work / name, overrides, args.device, seed) for seed in range(args.seeds)]
            pending.append((name, make_project(work / name, overrides, args.device), runs))
        for name, params, runs in pending:
            rows += measure(work / name, name, params, [run.result() for run in runs], args)
    for key in SHOWN:
        values = [row[key] for row in rows]
        middle = f"mean {statistics.mean(values):.4g}, median {statistics.median(values):.4g}"
        print(f"{key}: {middle} ({min(values):.4g} to {max(values):.4g}, n={len(values)})")
    for limit in (0.9, 0.8):
        print(f"recovered at least {limit}: {sum(row['recovered'] >= limit for row in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
