"""`python -m starter.recipe.export`: the parts => starter/model, starter/clip and starter/classifier, float16."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from starter.recipe.clip import image_processor
from starter.recipe.options import parse_options
from starter.recipe.unet import build_scheduler


def main(arguments: list[str] | None = None) -> None:
    """work => out/model (a StableDiffusionPipeline), out/clip (a CLIPModel), out/classifier."""
    options = parse_options(__doc__, arguments)
    work, out = options.work, options.out
    for part in ("model", "clip", "classifier"):
        shutil.rmtree(out / part, ignore_errors=True)
    half = torch.float16
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae", torch_dtype=half),
        text_encoder=CLIPTextModel.from_pretrained(work / "clip", dtype=half),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel.from_pretrained(work / "unet", torch_dtype=half),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out / "model", max_shard_size="15MB")
    for part in ("vae", "unet"):
        remove_local_path(out / "model" / part / "config.json")
    shutil.copytree(work / "tokenizer", out / "model" / "tokenizer", dirs_exist_ok=True)
    CLIPModel.from_pretrained(work / "clip", dtype=half).save_pretrained(out / "clip", max_shard_size="2MB")
    image_processor().save_pretrained(out / "clip")
    shutil.copytree(work / "tokenizer", out / "clip", dirs_exist_ok=True)
    shutil.copytree(work / "classifier", out / "classifier")
    size = sum(
        p.stat().st_size for part in ("model", "clip", "classifier") for p in (out / part).rglob("*") if p.is_file()
    )
    print(f"weights: {size / 1e6:.1f} MB", flush=True)


def remove_local_path(config: Path) -> None:
    """A part's settings without the folder of this machine that the part came from."""
    settings = json.loads(config.read_text())
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
