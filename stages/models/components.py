"""Load the parts of a Stable Diffusion 1.x or 2.x, and check that they fit each other.

Legend: B batch, L tokens of a prompt, D width, c h w latent, H W image.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from stages.common.pretrained import check_tokenizer, loading
from stages.models.model_files import load_config, load_part
from stages.models.params import Model

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SIDE = 64  # px of the image with which the shapes are compared


@dataclass(frozen=True)
class Components:
    """The parts of a pipeline, under diffusers' names; the models are frozen and on the CPU."""

    tokenizer: CLIPTokenizer
    scheduler: DDPMScheduler
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel


def load_components(model: Model, dtype: torch.dtype, vae_dtype: torch.dtype) -> Components:
    """Return the parts of a base model. Raises UserError if one cannot be loaded, or does not fit the others."""
    components = Components(
        tokenizer=load_part(CLIPTokenizer, model, "tokenizer"),
        scheduler=_load_scheduler(model),
        text_encoder=load_part(CLIPTextModel, model, "text_encoder", dtype),
        vae=load_part(AutoencoderKL, model, "vae", vae_dtype),
        unet=load_part(UNet2DConditionModel, model, "unet", dtype),
    )
    with loading(model.base, "model.base", "tokenizer"):
        tokenizer = components.tokenizer
        check_tokenizer(tokenizer, components.text_encoder.get_input_embeddings())
        # Folders of other libraries have no model_max_length, which then is 10^30.
        length = components.text_encoder.config.max_position_embeddings
        tokenizer.model_max_length = min(tokenizer.model_max_length, length)
        if tokenizer.model_max_length < 4:
            raise ValueError(f"model_max_length is {tokenizer.model_max_length}")
    with loading(model.base, "model.base"):
        _check_shapes(components)
    return components


def _load_scheduler(model: Model) -> DDPMScheduler:
    config = load_config(DDPMScheduler, model, "scheduler")
    with loading(model.base, "model.base", "scheduler"):
        scheduler = DDPMScheduler.from_config(config)
        prediction, alphas = scheduler.config.prediction_type, scheduler.alphas_cumprod
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction_type is {prediction!r}, not one of {', '.join(PREDICTIONS)}")
        if not ((alphas >= 0) & (alphas < 1)).all() or (alphas.diff() > 0).any():
            raise ValueError("the betas are no noise schedule")
    return scheduler


@torch.no_grad()
def _check_shapes(components: Components) -> None:
    """Run the models without weights, which costs nothing, and compare the shapes of what they pass to each other."""
    factor = components.vae.config.scaling_factor
    if not isinstance(factor, float | int) or factor <= 0:
        raise ValueError(f"scaling_factor of the vae is {factor}")
    with torch.device("meta"):
        text_encoder = CLIPTextModel(components.text_encoder.config)
        vae = AutoencoderKL.from_config(components.vae.config)
        unet = UNet2DConditionModel.from_config(components.unet.config)
        ids = torch.zeros(1, components.tokenizer.model_max_length, dtype=torch.long)
        prompt = text_encoder(ids).last_hidden_state
        image = torch.zeros(1, 3, SIDE, SIDE)
        latents = vae.encode(image).latent_dist.mode()
        predicted = unet(latents, torch.tensor(0), prompt).sample
        if predicted.shape != latents.shape or vae.decode(latents).sample.shape != image.shape:
            raise ValueError(f"the unet predicts {tuple(predicted.shape)} for latents {tuple(latents.shape)}")
