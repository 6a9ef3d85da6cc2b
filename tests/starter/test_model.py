"""The committed weights: within their limits, in plain files, and able to draw what they are asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer

from starter import attribute_classifier
from starter.captions import NAMES
from starter.labels import attribute_values
from starter.world.rendering import render, sample_spec

STARTER = Path(__file__).parents[2] / "starter"
PARTS = ("model", "clip", "classifier")
FRESH = 10_000_000


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(STARTER / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def fresh(count: int) -> torch.Tensor:
    pixels = np.stack([np.asarray(render(sample_spec(FRESH + i))) for i in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_files_are_safetensors_and_small():
    files = [path for part in PARTS for path in (STARTER / part).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert max(path.stat().st_size for path in weights) <= 16 * 2**20
    assert sum(path.stat().st_size for path in weights) <= 40e6
    assert all(path.stat().st_size < 2 * 2**20 for path in weights if path.parent.name in ("clip", "classifier"))


def test_no_file_says_where_it_was_made():
    for path in (path for part in PARTS for path in (STARTER / part).rglob("*.json")):
        assert not json.loads(path.read_text()).get("_name_or_path", "").startswith("/"), path


def test_the_layout_is_that_of_stable_diffusion(pipeline: StableDiffusionPipeline):
    index = json.loads((STARTER / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert pipeline.vae_scale_factor == 8
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size


def test_its_tokenizer_knows_the_names_and_not_the_placeholder(pipeline: StableDiffusionPipeline):
    assert all(len(pipeline.tokenizer.tokenize(name)) == 1 for name in NAMES[::100])
    assert len(pipeline.tokenizer.tokenize("<emberwing>")) > 1
    assert len(pipeline.tokenizer.encode("dragon", add_special_tokens=False)) == 1


def test_the_vae_gives_back_what_it_was_given(pipeline: StableDiffusionPipeline):
    x = fresh(12)
    with torch.no_grad():
        z = pipeline.vae.encode(x).latent_dist.mean
        y = pipeline.vae.decode(z).sample.clamp(-1, 1)
    error = ((y - x) / 2).pow(2).mean((1, 2, 3))
    assert (-10 * error.log10()).mean() > 26
    assert 0.8 < z.std() < 1.2


def test_the_reader_reads_fresh_drawings():
    said = attribute_classifier.load().predict(fresh(60))
    true = [attribute_values(sample_spec(FRESH + i)) for i in range(60)]
    for group in true[0]:
        assert sum(a[group] == b[group] for a, b in zip(said, true, strict=True)) >= 57, group


def test_a_prompt_is_drawn(pipeline: StableDiffusionPipeline):
    prompts = ["a red cat with blue butterfly wings at night", "a green dragon with yellow bat wings by the sea"]
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    pictures = pipeline(prompts, num_inference_steps=12, guidance_scale=4.0, generator=noise, output_type="pt").images
    cat, dragon = attribute_classifier.load().predict(pictures * 2 - 1)
    assert (cat["body"], cat["scene"], cat["wing_colour"]) == ("red", "night", "blue")
    assert (dragon["body"], dragon["scene"], dragon["wing_colour"]) == ("green", "sea", "yellow")


def test_clip_knows_which_caption_belongs_to_which_picture():
    clip = CLIPModel.from_pretrained(STARTER / "clip", dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(STARTER / "clip")
    specs = [sample_spec(FRESH + i) for i in range(24)]
    captions = [f"a {s.creature.body} {s.creature.kind}" for s in specs]
    inputs = processor(text=captions, images=[render(s) for s in specs], return_tensors="pt", padding=True)
    with torch.no_grad():
        best = clip(**inputs).logits_per_image.argmax(1)
    right = [captions[i] == own for i, own in zip(best.tolist(), captions, strict=True)]
    assert sum(right) >= 20
