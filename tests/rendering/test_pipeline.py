"""The pipeline takes the settings of the base model, and refuses models and embeddings that do not fit."""

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
from stages.rendering.load_embedding import load_embedding
from stages.rendering.params import Render
from stages.rendering.pipeline import SCHEDULERS, WITHOUT_ZERO_SNR, open_pipeline
from tests.outs import write_embedding
from tests.rendering.conftest import FAST
from tests.tiny import WIDTH, tiny_model


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "copy")


def open_model(folder: Path, scheduler: str | None = None) -> StableDiffusionPipeline:
    return open_pipeline(Model(base=str(folder)), Render(**FAST, scheduler=scheduler), "cpu")


def change(folder: Path, file: str = "scheduler/scheduler_config.json", **settings: object) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_scheduler_takes_the_settings_of_the_base_model(tmp_path: Path, name: str):
    base = change(tiny_model(tmp_path, "v_prediction"), timestep_spacing="trailing")
    scheduler = open_model(base, name).scheduler
    assert type(scheduler) is SCHEDULERS[name]
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.timestep_spacing == "trailing"
    assert (scheduler.config.beta_start, scheduler.config.beta_schedule) == (0.00085, "scaled_linear")
    assert not scheduler.config.get("clip_sample", False)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_zero_terminal_snr_is_kept_or_refused(copy: Path, name: str):
    change(copy, rescale_betas_zero_snr=True)
    if name in WITHOUT_ZERO_SNR:
        with pytest.raises(UserError, match=f"`render.scheduler` {name} .* choose ddim"):
            open_model(copy, name)
    else:
        assert open_model(copy, name).scheduler.alphas_cumprod[-1] < 1e-6


def test_scheduler_of_the_base_model_is_used_if_it_exists(model: Path, copy: Path):
    assert type(open_model(model).scheduler).__name__ == "DDIMScheduler"
    change(copy, _class_name="NextYearsScheduler")
    with pytest.raises(UserError, match=r"'NextYearsScheduler'.*set `render.scheduler`"):
        open_model(copy)
    assert type(open_model(copy, "euler").scheduler).__name__ == "EulerDiscreteScheduler"
    (copy / "scheduler/scheduler_config.json").unlink()
    with pytest.raises(UserError, match=r"the scheduler of "):
        open_model(copy)


def test_other_families_are_refused(copy: Path):
    with pytest.raises(UserError, match="is a FluxPipeline"):
        open_model(change(copy, "model_index.json", _class_name="FluxPipeline"))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weight_is_refused(copy: Path, part: str):
    """The libraries initialize missing weights at random, and only warn."""
    file = next((copy / part).glob("*.safetensors"))
    weights = load_file(file)
    del weights[sorted(weights)[3]]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"the {part} of "):
        open_model(copy)


def test_old_names_of_weights_are_read(model: Path, copy: Path):
    """The VAE of Stable Diffusion 1.5 names its attention weights query, key, value and proj_attn."""
    file = next((copy / "vae").glob("*.safetensors"))
    weights = load_file(file)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    assert any(".query." in name for name in weights)
    save_file(weights, file, {"format": "pt"})
    expected = open_model(model).vae.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in open_model(copy).vae.state_dict().items())


def test_embeddings_that_do_not_fit(model: Path, tmp_path: Path):
    pipeline, file = open_model(model), write_embedding(tmp_path / "e.safetensors", np.zeros((1, WIDTH + 1)))
    with pytest.raises(UserError, match="dragon</w> is a token of this model"):
        load_embedding(pipeline, file, "dragon</w>")
    with pytest.raises(UserError, match=r"e.safetensors does not fit this model .* `dvc repro train`"):
        load_embedding(pipeline, file, "<critter>")
    file.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header!!!!")
    with pytest.raises(UserError, match=r"e.safetensors cannot be read .* `dvc repro train`"):
        load_embedding(open_model(model), file, "<critter>")
