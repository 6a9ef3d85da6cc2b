"""The pipeline renders as diffusers' own does, and refuses models and embeddings that do not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from stages import UserError
from stages.models.params import Model
from stages.rendering.pipeline import SCHEDULERS, WITHOUT_ZERO_SNR, add_embedding, open_pipeline
from tests.outs import write_embedding
from tests.tiny import WIDTH, tiny_model


def open_model(folder: Path, scheduler: str | None = None) -> StableDiffusionPipeline:
    return open_pipeline(Model(base=str(folder)), scheduler, "cpu", torch.float32)


def render(pipeline: StableDiffusionPipeline, prompt: str) -> np.ndarray:
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    noise = torch.Generator().manual_seed(4)
    return pipeline(prompt, num_inference_steps=3, latents=latents, generator=noise, output_type="np").images


def copy_with_scheduler(model: Path, target: Path, **settings: object) -> Path:
    path = shutil.copytree(model, target) / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return target


@pytest.mark.parametrize("vectors", [1, 3])
def test_renders_equal_diffusers(model: Path, tmp_path: Path, vectors: int):
    file = write_embedding(tmp_path / "e.safetensors", np.random.default_rng(0).standard_normal((vectors, WIDTH)))
    reference, ours = StableDiffusionPipeline.from_pretrained(model, safety_checker=None), open_model(model)
    reference.set_progress_bar_config(disable=True)
    reference.load_textual_inversion(str(file))
    add_embedding(ours, "<critter>", file)
    expected = render(reference, "a <critter> at night")
    np.testing.assert_allclose(render(ours, "a <critter> at night"), expected, atol=1e-5)
    assert np.abs(render(ours, "a dragon at night") - expected).max() > 1e-3


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_scheduler_takes_the_settings_of_the_base_model(tmp_path: Path, name: str):
    base = tiny_model(tmp_path / "v", "v_prediction")
    scheduler = open_model(copy_with_scheduler(base, tmp_path / "model", timestep_spacing="trailing"), name).scheduler
    config = scheduler.config
    assert type(scheduler) is SCHEDULERS[name]
    assert (config.prediction_type, config.timestep_spacing) == ("v_prediction", "trailing")
    assert (config.beta_start, config.beta_schedule) == (0.00085, "scaled_linear")
    assert not config.get("clip_sample", False)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_zero_terminal_snr_is_kept_or_refused(model: Path, tmp_path: Path, name: str):
    copy_with_scheduler(model, tmp_path / "model", rescale_betas_zero_snr=True)
    if name in WITHOUT_ZERO_SNR:
        with pytest.raises(UserError, match=f"`render.scheduler` {name} .* choose ddim"):
            open_model(tmp_path / "model", name)
    else:
        assert open_model(tmp_path / "model", name).scheduler.alphas_cumprod[-1] < 1e-6


def test_scheduler_of_the_base_model_is_used_if_it_exists(model: Path, tmp_path: Path):
    assert type(open_model(model).scheduler).__name__ == "DDIMScheduler"
    unknown = copy_with_scheduler(model, tmp_path / "model", _class_name="NextYearsScheduler")
    with pytest.raises(UserError, match=r"'NextYearsScheduler'.*set `render.scheduler`"):
        open_model(unknown)
    assert type(open_model(unknown, "euler").scheduler).__name__ == "EulerDiscreteScheduler"


def test_models_that_cannot_be_opened(model: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"the folder .*nowhere .*`model.base`"):
        open_model(tmp_path / "nowhere")
    pickled = shutil.copytree(model, tmp_path / "pickled")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="is a pickle"):
        open_model(pickled)
    other = shutil.copytree(model, tmp_path / "other")
    (other / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UserError, match="is a FluxPipeline"):
        open_model(other)
    without = shutil.copytree(model, tmp_path / "without", ignore=shutil.ignore_patterns("scheduler_config.json"))
    with pytest.raises(UserError, match=r"the scheduler of "):
        open_model(without)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weight_is_refused(model: Path, tmp_path: Path, part: str):
    """The libraries initialize missing weights at random, and only warn."""
    file = next((shutil.copytree(model, tmp_path / "model") / part).glob("*.safetensors"))
    weights = load_file(file)
    del weights[sorted(weights)[3]]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"the {part} of "):
        open_model(tmp_path / "model")


def test_old_names_of_weights_are_read(model: Path, tmp_path: Path):
    """The VAE of Stable Diffusion 1.5 names its attention weights query, key, value and proj_attn."""
    file = next((shutil.copytree(model, tmp_path / "model") / "vae").glob("*.safetensors"))
    weights = load_file(file)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    assert any(".query." in name for name in weights)
    save_file(weights, file, {"format": "pt"})
    assert np.array_equal(render(open_model(tmp_path / "model"), "a cat"), render(open_model(model), "a cat"))


def test_embeddings_that_do_not_fit(model: Path, tmp_path: Path):
    pipeline = open_model(model)
    file = write_embedding(tmp_path / "e.safetensors", np.zeros((1, WIDTH + 1)))
    with pytest.raises(UserError, match="dragon</w> is a token of this model"):
        add_embedding(pipeline, "dragon</w>", file)
    with pytest.raises(UserError, match=r"e.safetensors does not fit this model .* `dvc repro train`"):
        add_embedding(pipeline, "<critter>", file)
    file.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header!!!!")
    with pytest.raises(UserError, match="does not fit this model"):
        add_embedding(open_model(model), "<critter>", file)
