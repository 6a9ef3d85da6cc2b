"""The preset for Stable Diffusion 1.5 has the values of the published recipe, and its learning rate in effect."""

import re
from pathlib import Path

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


def load_preset() -> object:
    return load(*{section for section, *_ in RECIPE}, path=ROOT / "presets" / "charizard-sd15.yaml")


def test_preset_has_the_values_of_the_recipe():
    params = load_preset()
    for keys, expected in RECIPE.items():
        value = params
        for name in keys:
            value = getattr(value, name)
        assert value == expected, keys
    assert len(params.render.prompts) == 4


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
