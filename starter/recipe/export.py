"""Export the trained parts to starter/model, starter/clip and starter/classifier, in float16."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from starter.recipe.clip import image_processor
from starter.recipe.options import parse_options
from starter.recipe.unet import build_scheduler

PARTS = ("model", "clip", "classifier")


def remove_local_path(config: Path) -> None:
    """Remove the path that a model was loaded from from its config."""
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Write out/model (a StableDiffusionPipeline), out/clip (a CLIPModel) and out/classifier."""
    options = parse_options(__doc__, arguments)
    work, out = options.work, options.out
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae", torch_dtype=torch.float16),
        text_encoder=CLIPTextModel.from_pretrained(work / "clip", dtype=torch.float16),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(work / "unet", torch_dtype=torch.float16),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out / "model", max_shard_size="15MB")
    for part in ("vae", "unet"):
        remove_local_path(out / "model" / part / "config.json")
    clip = CLIPModel.from_pretrained(work / "clip", dtype=torch.float16)
    clip.save_pretrained(out / "clip", max_shard_size="2MB")
    image_processor().save_pretrained(out / "clip")
    # The files that the weights were trained with: loading and saving a tokenizer changes its config.
    for folder in (out / "model" / "tokenizer", out / "clip"):
        shutil.copytree(work / "tokenizer", folder, dirs_exist_ok=True)
    shutil.copytree(work / "classifier", out / "classifier")
    size = sum(path.stat().st_size for part in PARTS for path in (out / part).rglob("*") if path.is_file())
    print(f"weights: {size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
