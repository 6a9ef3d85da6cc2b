"""The reference preset is the recipe that was asked for, value by value, and the learning rate that it means."""

from stages.common.params import load
from stages.inversion.optimizer import learning_rates
from tests.closure import ROOT

REFERENCE = {
    ("dataset", "source"): "kaggle",
    ("dataset", "kaggle", "dataset"): "thedagger/pokemon-generation-one",
    ("filter", "class_"): "Charizard",
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
    ("runtime", "micro_batch"): 1,
    ("runtime", "gradient_checkpointing"): True,
    ("runtime", "attention"): "xformers",
    ("runtime", "trackers"): ["wandb"],
}


def reference() -> object:
    return load(*{section for section, *_ in REFERENCE}, path=ROOT / "presets" / "charizard-sd15.yaml")


def test_the_reference_recipe_has_every_value():
    params = reference()
    for way, expected in REFERENCE.items():
        value = params
        for name in way:
            value = getattr(value, name)
        assert value == expected, way
    assert len(params.render.prompts) == 4


def test_its_learning_rate_is_scaled_as_the_script_does():
    rate = learning_rates(reference().train)
    assert max(rate(step) for step in range(2000)) == 4e-2
    assert rate(0) == 0.0
    assert rate(50) == 2e-2
