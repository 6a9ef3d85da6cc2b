"""The committed weights: file sizes and formats, and the quality of the VAE, the classifier, the pipeline and CLIP."""

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
FILES = [path for part in ("model", "clip", "classifier") for path in (STARTER / part).rglob("*") if path.is_file()]
UNSEEN = 10_000_000  # seeds from here on are in no training set


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(STARTER / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def unseen_images(count: int) -> torch.Tensor:
    pixels = np.stack([np.asarray(render(sample_spec(UNSEEN + i))) for i in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_weights_are_small_safetensors():
    assert {path.suffix for path in FILES} <= {".safetensors", ".json", ".txt"}
    weights = [path for path in FILES if path.suffix == ".safetensors"]
    assert max(path.stat().st_size for path in weights) <= 16 * 2**20
    assert sum(path.stat().st_size for path in weights) <= 40e6
    assert all(path.stat().st_size < 2 * 2**20 for path in weights if path.parent.name in ("clip", "classifier"))


def test_configs_name_no_local_path():
    for path in (path for path in FILES if path.suffix == ".json"):
        assert not json.loads(path.read_text()).get("_name_or_path", "").startswith("/"), path


def test_layout_is_that_of_stable_diffusion(pipeline: StableDiffusionPipeline):
    index = json.loads((STARTER / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert pipeline.vae_scale_factor == 8
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size


def test_names_are_single_tokens_and_the_placeholder_is_not(pipeline: StableDiffusionPipeline):
    assert all(len(pipeline.tokenizer.tokenize(name)) == 1 for name in (*NAMES[::100], "dragon"))
    assert len(pipeline.tokenizer.tokenize("<emberwing>")) > 1


def test_vae_reconstructs_unseen_images(pipeline: StableDiffusionPipeline):
    x = unseen_images(12)
    with torch.no_grad():
        z = pipeline.vae.encode(x).latent_dist.mean
        y = pipeline.vae.decode(z).sample.clamp(-1, 1)
    error = ((y - x) / 2).pow(2).mean((1, 2, 3))
    assert (-10 * error.log10()).mean() > 26
    assert 0.8 < z.std() < 1.2


def test_attribute_classifier_is_right_on_unseen_images():
    predictions = attribute_classifier.load().predict(unseen_images(60))
    targets = [attribute_values(sample_spec(UNSEEN + i)) for i in range(60)]
    for group in targets[0]:
        assert sum(a[group] == b[group] for a, b in zip(predictions, targets, strict=True)) >= 57, group


def test_renders_show_the_attributes_of_the_prompt(pipeline: StableDiffusionPipeline):
    prompts = ["a red cat with blue butterfly wings at night", "a green dragon with yellow bat wings by the sea"]
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    images = pipeline(prompts, num_inference_steps=12, guidance_scale=4.0, generator=noise, output_type="pt").images
    cat, dragon = attribute_classifier.load().predict(images * 2 - 1)
    assert (cat["body"], cat["scene"], cat["wing_colour"]) == ("red", "night", "blue")
    assert (dragon["body"], dragon["scene"], dragon["wing_colour"]) == ("green", "sea", "yellow")


def test_clip_matches_images_with_their_captions():
    clip = CLIPModel.from_pretrained(STARTER / "clip", dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(STARTER / "clip")
    specs = [sample_spec(UNSEEN + i) for i in range(24)]
    captions = [f"a {spec.creature.body} {spec.creature.kind}" for spec in specs]
    inputs = processor(text=captions, images=[render(spec) for spec in specs], return_tensors="pt", padding=True)
    with torch.no_grad():
        best = clip(**inputs).logits_per_image.argmax(1)
    assert sum(captions[i] == caption for i, caption in zip(best.tolist(), captions, strict=True)) >= 20
