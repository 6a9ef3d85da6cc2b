"""Learn Emberwing once per seed with the default recipe, and measure the renders: python -m bench.word [--seeds 5].

The stages run in a temporary project. With s(x) the mean CLIP similarity of images x to the held-out images, the
recovered share is (s(placeholder token) - s(initializer token)) / (s(training images) - s(initializer token)). Prompt
following is the share of renders with the scene of the prompt, relative to the initializer token's.
"""

import json
import statistics
import tempfile
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from bench.common import STARTER, machine, make_project, open_pipeline, parser, run_stage, summary, write_params
from stages.common.outs import read_image
from stages.inversion.dataset import curated_images
from starter import attribute_classifier
from starter.world.attributes import EMBERWING

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
CREATURE = {key: getattr(EMBERWING, key) for key in ("body", "wing_colour", "tail")}


class Evaluator:
    """Compare renders with the held-out images by CLIP, and with Emberwing and the prompts by the classifier."""

    def __init__(self, device: str, holdout: list[Image.Image]) -> None:
        self.clip = CLIPModel.from_pretrained(STARTER / "clip", dtype=torch.float32).to(device)
        self.processor = CLIPProcessor.from_pretrained(STARTER / "clip")
        self.classifier = attribute_classifier.load().to(device)
        self.holdout = self.embed(holdout)

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """Convert images to B x 3 x 128 x 128 in -1..1, the input of both models."""
        return self.processor(images=images, return_tensors="pt").pixel_values.to(self.clip.device)

    @torch.no_grad()
    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        """Return normalized CLIP image embeddings, B x D."""
        pooled = self.clip.vision_model(pixel_values=self.pixels(images)).pooler_output
        return torch.nn.functional.normalize(self.clip.visual_projection(pooled), dim=1)

    def similarity(self, images: list[Image.Image]) -> float:
        """Return the mean cosine similarity of all pairs with the held-out images."""
        return float((self.embed(images) @ self.holdout.T).mean())

    def evaluate(self, renders: list[Image.Image]) -> dict[str, float]:
        """Return the similarities, and the shares of renders that show Emberwing and what the prompt asks for."""
        count = len(renders) // len(PROMPTS)
        expected = [{**CREATURE, "scene": s, "style": t} for s, t in PROMPTS.values() for _ in range(count)]
        predictions = zip(self.classifier.predict(self.pixels(renders)), expected, strict=True)
        matches = [{key: found[key] == target[key] for key in target} for found, target in predictions]
        return {
            "similarity": self.similarity(renders[: PLAIN * count]),
            "similarity of all prompts": self.similarity(renders),
            **{key: statistics.mean(match[key] for match in matches) for key in matches[0]},
            "all attributes": statistics.mean(all(match[key] for key in CREATURE) for match in matches),
        }


def render_prompts(pipeline, token: str, params: dict, count: int) -> list[Image.Image]:
    """Render `count` images per prompt; images with equal indices start from equal noise."""
    texts = [prompt.format(token) for prompt in PROMPTS for _ in range(count)]
    noise = [torch.Generator().manual_seed(i) for _ in PROMPTS for i in range(count)]
    options = {"num_inference_steps": params["steps"], "guidance_scale": params["guidance_scale"]}
    return pipeline(texts, generator=noise, **options).images


def train(project: Path, params: dict, seed: int) -> dict[str, float]:
    """Train with a seed; return what train.json says of the validation loss, and the seconds."""
    params["train"]["seed"] = seed
    write_params(project, params)
    seconds = run_stage(project, "train")
    result = json.loads((project / "data/train.json").read_text())
    return {key: result[key] for key in ("validation_loss_relative", "best_step", "steps_run")} | {"seconds": seconds}


def describe(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--images", type=int, default=6, help="renders per prompt")
    options.add_argument("--device", default="cpu")
    options.add_argument("--set", nargs="*", default=[], help="params to override, such as train.steps=300")
    args = options.parse_args()
    print(f"{machine()}, device {args.device}")
    with tempfile.TemporaryDirectory() as folder:
        project, rows = Path(folder), []
        params = make_project(project, args.set, args.device)
        for stage in ("download", "filter", "curate"):
            run_stage(project, stage)
        curated = curated_images(project / "data/curated")
        holdout, training = ([read_image(f, "curate") for f in files] for files in (curated.holdout, curated.train))
        pipeline, evaluator = open_pipeline(args.device), Evaluator(args.device, holdout)
        placeholder, initializer = (params["concept"][key] for key in ("placeholder_token", "initializer_token"))
        renders = render_prompts(pipeline, initializer, params["render"], args.images)
        baseline, real = evaluator.evaluate(renders), evaluator.similarity(training)
        print(f"training images: similarity {real:.4g}\n{initializer}: {describe(baseline)}", flush=True)
        for seed in range(args.seeds):
            trained = train(project, params, seed)
            if seed:
                pipeline.unload_textual_inversion(placeholder)
            pipeline.load_textual_inversion(project / "data/embedding/learned_embeds.safetensors")
            renders = render_prompts(pipeline, placeholder, params["render"], args.images)
            result = evaluator.evaluate(renders)
            share = (result["similarity"] - baseline["similarity"]) / (real - baseline["similarity"])
            following = result["scene"] / baseline["scene"]
            rows.append({"recovered share": share, "prompt following": following, **result, **trained})
            print(f"seed {seed}: {describe(rows[-1])}", flush=True)
    for name in ("recovered share", "prompt following", "seconds"):
        print(f"{name}: {summary([row[name] for row in rows])}")


if __name__ == "__main__":
    main()
