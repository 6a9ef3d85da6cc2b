"""The presets have the values of the published recipes, and their learning rate in effect."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.common.params import load
from stages.inversion.optimizer import learning_rates
from tests.closure import ROOT

RECIPE = {
    ("dataset", "source"): "kaggle",
    ("dataset", "kaggle", "dataset"): "thedagger/pokemon-generation-one",
    ("filter", "class_"): "Charizard",
    ("filter", "clip"): "openai/clip-vit-base-patch32",
    ("curate", "count"): 7,
    ("curate", "resolution"): 512,
    ("model", "base"): "stable-diffusion-v1-5/stable-diffusion-v1-5",
    ("concept", "placeholder_token"): "<charizard>",
    ("concept", "initializer_token"): "dragon",
    ("concept", "property"): "object",
    ("concept", "vectors"): 1,
    ("train", "batch_size"): 4,
    ("train", "steps"): 2000,
    ("train", "learning_rate"): 1e-2,
    ("train", "scale_learning_rate"): True,
    ("train", "lr_scheduler"): "cosine",
    ("train", "lr_warmup_steps"): 100,
    ("train", "mixed_precision"): "fp16",
    ("render", "steps"): 50,
    ("runtime", "micro_batch"): "auto",
    ("runtime", "trackers"): ["wandb"],
}
# The command in diffusers' examples/textual_inversion/README_sdxl.md, in Stable Diffusion XL's own resolution.
LARGER = {
    ("curate", "resolution"): 1024,
    ("train", "batch_size"): 4,
    ("train", "steps"): 500,
    ("train", "learning_rate"): 5e-4,
    ("train", "scale_learning_rate"): True,
    ("train", "lr_scheduler"): "constant",
    ("train", "lr_warmup_steps"): 0,
    ("train", "mixed_precision"): "bf16",
}
PRESETS = {
    "charizard-sd15": RECIPE,
    "charizard-sdxl": LARGER | {("model", "base"): "stabilityai/stable-diffusion-xl-base-1.0"},
    "charizard-sd35-medium": LARGER | {("model", "base"): "stabilityai/stable-diffusion-3.5-medium"},
    "charizard-sd35-large": LARGER | {("model", "base"): "stabilityai/stable-diffusion-3.5-large"},
}


def load_preset(name: str = "charizard-sd15") -> SimpleNamespace:
    return load(*{section for section, *_ in RECIPE}, "evaluate", path=ROOT / "presets" / f"{name}.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_values_of_the_recipe(name: str):
    params = load_preset(name)
    for keys, expected in PRESETS[name].items():
        value = params
        for key in keys:
            value = getattr(value, key)
        assert value == expected, keys
    assert params.render.prompts == load_preset().render.prompts
    assert len(params.render.prompts) == 4
    assert params.render.scheduler is None
    assert params.evaluate.dino == "facebook/dinov2-base"


def test_there_is_a_test_for_every_preset():
    assert {path.stem for path in (ROOT / "presets").glob("*.yaml")} == PRESETS.keys()


def test_example_of_another_model_is_valid(tmp_path: Path):
    text = (ROOT / "presets" / "charizard-sd15.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"^( +)# (compare:|name:|  +)", r"\1\2", text, flags=re.MULTILINE))
    render = load("render", path=tmp_path / "params.yaml").render
    (other,) = render.compare
    assert other.model == "stabilityai/stable-diffusion-3.5-large"
    assert (other.prompts, len(render.prompts)) == ({"name": "Charizard", "plain": "Charizard cartoon"}, 5)


def test_learning_rate_is_scaled_as_by_the_script():
    rate = learning_rates(load_preset().train)
    assert max(rate(step) for step in range(2000)) == 4e-2
    assert rate(0) == 0.0
    assert rate(50) == 2e-2
    assert learning_rates(load_preset("charizard-sdxl").train)(0) == 2e-3
