"""How well a word is learnt on the built-in model: python -m bench.word [--seeds 5] [--device cpu].

The stages themselves do the work, in a folder of their own, with the recipe of params.yaml: download, filter and curate
once, train once a seed. With s(x) the mean CLIP image similarity of pictures x to the held-out ones, the figure is
(s(word) - s(initializer)) / (s(real) - s(initializer)), where real are the pictures that the word was learnt from.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from ruamel.yaml import YAML
from transformers import CLIPModel, CLIPProcessor

from bench.starter import STARTER, open_pipeline
from starter import attribute_classifier
from starter.world.attributes import EMBERWING

# Prompt => the scene and the style that it asks for.
PROMPTS = {
    "a photo of a {}": ("white", "cartoon"),
    "a {}": ("white", "cartoon"),
    "a {} at night": ("night", "cartoon"),
    "a {} by the sea": ("sea", "cartoon"),
    "a {} in the forest": ("forest", "cartoon"),
    "a {} in front of a volcano": ("volcano", "cartoon"),
    "a sketch of a {}": ("white", "sketch"),
    "a pastel painting of a {} in the snow": ("snow", "pastel"),
}
PLAIN = 2  # the first prompts name no place: their pictures are compared with the held-out ones
SIGNS = ("body", "wing_colour", "tail")


def main() -> None:
    """Learn the word once a seed, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=6, help="pictures a prompt")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheet", type=Path, help="where to draw the first seed's pictures")
    parser.add_argument("--set", nargs="*", default=[], help="params to change, such as train.steps=300")
    options = parser.parse_args()
    pipeline, eyes = open_pipeline(options.device), Eyes(options.device)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        params = settle(home, options.set, options.device)
        placeholder, initializer = (params["concept"][key] for key in ("placeholder_token", "initializer_token"))
        for name in ("download", "filter", "curate"):
            run(home, name)
        held, real = (eyes.look(curated(home, part)) for part in ("holdout", "train"))
        start = drawn(pipeline, initializer, params["render"], options.pictures)
        base, most = judge(eyes, start, held), similarity(real, held)
        print(f"real: similarity {most:.4f}\n{initializer}: {describe(base)}", flush=True)
        ratios, follows = [], []
        for seed in range(options.seeds):
            said, seconds = learn(home, params, seed)
            remember(pipeline, placeholder, home / "data/embedding/learned_embeds.safetensors")
            shown = drawn(pipeline, placeholder, params["render"], options.pictures)
            found = judge(eyes, shown, held)
            ratios.append((found["similarity"] - base["similarity"]) / (most - base["similarity"]))
            follows.append(found["scene"] / base["scene"])
            print(f"seed {seed}: recovered {ratios[-1]:.3f}; {describe(found)}; {said}, {seconds:.0f} s", flush=True)
            if seed == 0 and options.sheet:
                sheet([start, shown], options.sheet)
    print(f"recovered: mean {statistics.mean(ratios):.3f}, least {min(ratios):.3f}")
    print(f"prompt following, of the initializer's: mean {statistics.mean(follows):.3f}, least {min(follows):.3f}")


def settle(home: Path, changes: list[str], device: str) -> dict:
    """=> params.yaml with the changes, written where the stages will run."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(Path("params.yaml").read_text())
    params["runtime"] = {"device": device}
    for change in changes:
        key, _, value = change.partition("=")
        section, name = key.split(".")
        params[section][name] = yaml.load(value)
    (home / "starter").symlink_to(STARTER.absolute())
    yaml.dump(params, home / "params.yaml")
    return params


def run(home: Path, stage: str) -> None:
    """A stage of the pipeline, as DVC would run it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=home,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{stage}: {done.stderr[-2000:]}")


def curated(home: Path, part: str) -> list[Image.Image]:
    """=> the pictures that curate chose for that part."""
    index = json.loads((home / "data/curated/index.json").read_text())
    return [Image.open(home / "data/curated" / row["file"]).convert("RGB") for row in index[part]]


def learn(home: Path, params: dict, seed: int) -> tuple[str, float]:
    """=> what the train stage says of itself, and its seconds, start included."""
    params["train"]["seed"] = seed
    YAML(typ="safe", pure=True).dump(params, home / "params.yaml")
    began = time.perf_counter()
    run(home, "train")
    said = json.loads((home / "data/train.json").read_text())
    seconds = time.perf_counter() - began
    return f"objective {said['objective_relative']:.3f} at step {said['best_step']} of {said['steps_run']}", seconds


def remember(pipeline, placeholder: str, file: Path) -> None:
    """The pipeline takes the word from its file, as anyone's would; a word of that name that it had is gone."""
    if placeholder in pipeline.tokenizer.get_vocab():
        pipeline.unload_textual_inversion(placeholder)
    pipeline.load_textual_inversion(file)


def drawn(pipeline, subject: str, render: dict, count: int) -> list[list[Image.Image]]:
    """=> for each prompt its pictures; equal numbers have equal noise."""
    return [
        pipeline(
            [prompt.format(subject)] * count,
            num_inference_steps=render["steps"],
            guidance_scale=render["guidance_scale"],
            generator=[torch.Generator().manual_seed(i) for i in range(count)],
        ).images
        for prompt in PROMPTS
    ]


class Eyes:
    """CLIP and the reader of attributes."""

    def __init__(self, device: str) -> None:
        self.clip = CLIPModel.from_pretrained(STARTER / "clip", dtype=torch.float32).to(device)
        self.processor = CLIPProcessor.from_pretrained(STARTER / "clip")
        self.reader = attribute_classifier.load().to(device)

    @torch.no_grad()
    def look(self, images: Iterable[Image.Image]) -> torch.Tensor:
        """=> B x D, of length 1."""
        pixels = self.processor(images=list(images), return_tensors="pt").pixel_values
        seen = self.clip.vision_model(pixel_values=pixels.to(self.clip.device)).pooler_output
        return torch.nn.functional.normalize(self.clip.visual_projection(seen), dim=1)

    def read(self, images: list[Image.Image]) -> list[dict[str, str]]:
        """=> each picture's attributes; the processor's pixels are what the reader wants: 128 px, -1..1."""
        pixels = self.processor(images=images, return_tensors="pt").pixel_values
        return self.reader.predict(pixels.to(self.clip.device))


def similarity(a: torch.Tensor, b: torch.Tensor) -> float:
    """=> the mean cosine of all pairs."""
    return float((a @ b.T).mean())


def judge(eyes: Eyes, groups: list[list[Image.Image]], held: torch.Tensor) -> dict[str, float]:
    """Pictures by prompt => similarity of the plain ones to the held-out, and shares of what the reader finds."""
    seen = [[eyes.predict(images) for images in groups], list(PROMPTS.values())]
    rows = [(said, asked) for group, asked in zip(*seen, strict=True) for said in group]
    creature = {"body": EMBERWING.body, "wing_colour": EMBERWING.wing_colour, "tail": EMBERWING.tail}
    found = {"similarity": similarity(eyes.look(chain(*groups[:PLAIN])), held)}
    found["everywhere"] = similarity(eyes.look(chain(*groups)), held)
    found |= {sign: statistics.mean(said[sign] == creature[sign] for said, _ in rows) for sign in SIGNS}
    found["all signs"] = statistics.mean(all(said[s] == creature[s] for s in SIGNS) for said, _ in rows)
    found["scene"] = statistics.mean(said["scene"] == asked[0] for said, asked in rows)
    found["style"] = statistics.mean(said["style"] == asked[1] for said, asked in rows)
    return found


def describe(found: dict[str, float]) -> str:
    """=> the figures in a line."""
    return ", ".join(f"{name} {value:.3f}" for name, value in found.items())


def sheet(subjects: list[list[list[Image.Image]]], path: Path) -> None:
    """Draw a row a prompt: the initializer's pictures, then the word's."""
    side = subjects[0][0][0].width
    rows = [list(chain(*parts)) for parts in zip(*subjects, strict=True)]
    page = Image.new("RGB", (side * len(rows[0]), side * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image, (x * side, y * side))
    page.save(path)


if __name__ == "__main__":
    main()
