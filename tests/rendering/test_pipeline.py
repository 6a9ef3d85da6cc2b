"""What draws: the plain pipeline of diffusers is the measure of ours."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from stages import UserError
from stages.inversion import word
from stages.models.params import Model
from stages.rendering.pipeline import SAMPLERS, add_embedding, open_pipeline
from tests.tiny import WIDTH, tiny_model


def opened(folder: Path, scheduler: str | None = None) -> StableDiffusionPipeline:
    torch.set_num_threads(1)
    return open_pipeline(Model(base=str(folder)), scheduler, "cpu", torch.float32)


def draw(pipeline: StableDiffusionPipeline, prompt: str) -> np.ndarray:
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    noise = torch.Generator().manual_seed(4)
    return pipeline(prompt, num_inference_steps=3, latents=latents, generator=noise, output_type="np").images


def settings(folder: Path, target: Path, **changed: object) -> Path:
    """=> a copy of the model whose scheduler is set otherwise."""
    shutil.copytree(folder, target)
    path = target / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return target


@pytest.mark.parametrize("vectors", [1, 3])
def test_it_draws_what_the_plain_pipeline_draws(folder: Path, tmp_path: Path, vectors: int):
    random = np.random.default_rng(0).standard_normal((vectors, WIDTH))
    file = tmp_path / "word.safetensors"
    file.write_bytes(word.dump(random, "<critter>", {}))
    plain = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    plain.load_textual_inversion(str(file))
    ours, by_vectors = opened(folder), opened(folder)
    add_embedding(ours, "<critter>", file)
    add_embedding(by_vectors, "<critter>", torch.from_numpy(random.astype(np.float32)))
    wanted = draw(plain, "a <critter> at night")
    np.testing.assert_allclose(draw(ours, "a <critter> at night"), wanted, atol=1e-5)
    np.testing.assert_allclose(draw(by_vectors, "a <critter> at night"), wanted, atol=1e-5)
    assert np.abs(draw(ours, "a dragon at night") - wanted).max() > 1e-3


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_has_the_base_models_schedule(tmp_path: Path, name: str):
    model = settings(tiny_model(tmp_path / "v", "v_prediction"), tmp_path / "model", timestep_spacing="trailing")
    scheduler = opened(model, name).scheduler
    assert type(scheduler) is SAMPLERS[name]
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.timestep_spacing == "trailing"
    assert (scheduler.config.beta_start, scheduler.config.beta_schedule) == (0.00085, "scaled_linear")
    assert not scheduler.config.get("clip_sample", False)


@pytest.mark.parametrize("name", sorted({*SAMPLERS} - {"lms", "pndm"}))
def test_a_schedule_down_to_pure_noise_is_kept(folder: Path, tmp_path: Path, name: str):
    scheduler = opened(settings(folder, tmp_path / "model", rescale_betas_zero_snr=True), name).scheduler
    assert scheduler.config.rescale_betas_zero_snr
    assert scheduler.alphas_cumprod[-1] < 1e-6


@pytest.mark.parametrize("name", ["lms", "pndm"])
def test_a_sampler_that_knows_no_pure_noise_is_refused(folder: Path, tmp_path: Path, name: str):
    model = settings(folder, tmp_path / "model", rescale_betas_zero_snr=True)
    with pytest.raises(UserError, match=f"`render.scheduler` {name} .* choose ddim"):
        opened(model, name)


def test_the_base_models_own_sampler_is_taken_or_named(folder: Path, tmp_path: Path):
    assert type(opened(folder).scheduler).__name__ == "DDIMScheduler"
    unknown = settings(folder, tmp_path / "model", _class_name="NextYearsScheduler")
    with pytest.raises(UserError, match=r"'NextYearsScheduler'.*set `render.scheduler`"):
        opened(unknown)
    assert type(opened(unknown, "euler").scheduler).__name__ == "EulerDiscreteScheduler"


def test_what_cannot_be_opened_is_one_sentence(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"the folder .*nowhere is not here; mend `model.base`"):
        opened(tmp_path / "nowhere")
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="is a pickle"):
        opened(pickled)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UserError, match="is a FluxPipeline"):
        opened(other)
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("scheduler_config.json"))
    with pytest.raises(UserError, match=r"the scheduler of .* cannot be read"):
        opened(bare)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_without_all_its_weights_is_one_sentence(folder: Path, tmp_path: Path, part: str):
    """The libraries fill in random weights and warn; a picture drawn with those would look like a bad word."""
    file = next((shutil.copytree(folder, tmp_path / "model") / part).glob("*.safetensors"))
    weights = load_file(file)
    lost = sorted(weights)[3]
    del weights[lost]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"the {part} of .* cannot be read \(it has no "):
        opened(tmp_path / "model")


def test_the_names_of_old_checkpoints_are_understood(folder: Path, tmp_path: Path):
    """Stable Diffusion 1.5's own VAE calls its attention query, key, value and proj_attn."""
    file = next((shutil.copytree(folder, tmp_path / "model") / "vae").glob("*.safetensors"))
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = load_file(file)
    for new, old in names.items():
        weights = {key.replace(new, old): value for key, value in weights.items()}
    assert any(".query." in key for key in weights)
    save_file(weights, file, {"format": "pt"})
    assert np.array_equal(draw(opened(tmp_path / "model"), "a cat"), draw(opened(folder), "a cat"))


def test_a_word_that_does_not_fit_is_one_sentence(folder: Path, tmp_path: Path):
    pipeline = opened(folder)
    with pytest.raises(UserError, match="dragon</w> is a word that this model knows already"):
        add_embedding(pipeline, "dragon</w>", torch.zeros(1, WIDTH))
    with pytest.raises(UserError, match=r"<critter> does not go into this model .* `dvc repro train`"):
        add_embedding(pipeline, "<critter>", torch.zeros(1, WIDTH + 1))
    damaged = tmp_path / "word.safetensors"
    damaged.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header!!!!")
    with pytest.raises(UserError, match="does not go into this model"):
        add_embedding(opened(folder), "<critter>", damaged)
