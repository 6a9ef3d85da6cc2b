"""Check that the parts of a base model fit each other, and that its noise schedule is supported.

Legend: B batch, L tokens of a prompt, D width, c h w latent, H W image.
"""

from functools import partial
from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch.func import functional_call
from transformers import CLIPTextModelWithProjection

from stages.common.pretrained import check_vocabulary
from stages.models.text_encoders import T5_LENGTH

PREDICTIONS = ("epsilon", "v_prediction", "sample")
OTHER_SCHEDULES = ("EDM", "FlowMatch", "Cosine")  # starts of the names of schedulers whose noise is not DDPM's
SIDE = 64  # px of the image with which the shapes are compared


def check_scheduler(scheduler: DDPMScheduler | FlowMatchEulerDiscreteScheduler, name: str) -> None:
    """Check the base model's scheduler, of the class `name`: raise ValueError if its noise is not supported."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        if name != type(scheduler).__name__ or scheduler.config.use_dynamic_shifting or scheduler.config.invert_sigmas:
            raise ValueError(f"it is a {name} that is not supported")
        if not scheduler.config.shift > 0:
            raise ValueError(f"shift is {scheduler.config.shift}")
        return
    prediction, alphas = scheduler.config.prediction_type, scheduler.alphas_cumprod
    if name.startswith(OTHER_SCHEDULES):
        raise ValueError(f"it is a {name}, whose noise schedule is not supported")
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type is {prediction!r}, not one of {', '.join(PREDICTIONS)}")
    if not ((alphas >= 0) & (alphas < 1)).all() or (alphas.diff() > 0).any():
        raise ValueError("the betas are no noise schedule")


def check_tokenizer(components: SimpleNamespace, part: str) -> None:
    """Check a tokenizer against its text encoder, and set what their configs may lack or have wrong.

    Raises ValueError if they do not fit each other.
    """
    tokenizer, encoder = getattr(components, part), getattr(components, part.replace("tokenizer", "text_encoder"))
    check_vocabulary(tokenizer, encoder.get_input_embeddings())
    # Folders of other libraries have no model_max_length, which then is 10^30.
    longest = T5_LENGTH if part == "tokenizer_3" else encoder.config.max_position_embeddings
    tokenizer.model_max_length = longest if part == "tokenizer_3" else min(tokenizer.model_max_length, longest)
    if tokenizer.model_max_length < 4:
        raise ValueError(f"model_max_length is {tokenizer.model_max_length}")
    if isinstance(encoder, CLIPTextModelWithProjection):
        # Most configs say 2, for which transformers pools at the largest id: a new token's, if the prompt has one.
        encoder.text_model.eos_token_id = tokenizer.eos_token_id
    if part == "tokenizer_2" and tokenizer.get_vocab() != components.tokenizer.get_vocab():
        raise ValueError("its vocabulary is not that of the first tokenizer")


def check_shapes(components: SimpleNamespace) -> None:
    """Call the denoiser and the VAE without their weights, which costs little, and compare the shapes.

    Raises ValueError if the parts of the base model do not fit each other.
    """
    config = components.vae.config
    factor, shift = config.scaling_factor, config.shift_factor
    if not isinstance(factor, float | int) or factor <= 0 or not isinstance(shift, float | int | None):
        raise ValueError(f"scaling_factor of the vae is {factor}, and shift_factor {shift}")
    denoiser = getattr(components, "unet", None) or components.transformer
    with torch.device("meta"):
        image = torch.zeros(1, 3, SIDE, SIDE)
        side = SIDE // 2 ** (len(config.block_out_channels) - 1)
        latents = torch.zeros(1, config.latent_channels, side, side)
        predicted = _without_weights(denoiser)(latents, _denoiser_inputs(components)).sample
        if predicted.shape != latents.shape or _without_weights(components.vae)(image).sample.shape != image.shape:
            raise ValueError(f"the denoiser predicts {tuple(predicted.shape)} for latents {tuple(latents.shape)}")


def _without_weights(model: torch.nn.Module) -> partial:
    """Return a model to check as a function of tensors on the device `meta`, which have shapes and no values."""
    tensors = {name: tensor.to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    # In one precision, as the parts of a pipeline need not be.
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return partial(functional_call, model, tensors)


def _denoiser_inputs(components: SimpleNamespace) -> dict[str, object]:
    """Return what the check calls the denoiser with besides latents; all tensors are on the device `meta`."""
    clips = [getattr(components, name) for name in ("text_encoder", "text_encoder_2") if hasattr(components, name)]
    width = sum(encoder.config.hidden_size for encoder in clips)
    if hasattr(components, "transformer"):
        t5, clip_width = components.text_encoder_3, width
        width = t5.config.d_model if t5 else components.transformer.config.joint_attention_dim
        if width < clip_width:
            raise ValueError(f"its prompt embeddings have width {width}, and those of CLIP {clip_width}")
    inputs = {
        "timestep": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(1, components.tokenizer.model_max_length, width),
    }
    if hasattr(components, "transformer"):
        pooled = torch.zeros(1, sum(encoder.config.projection_dim for encoder in clips))
        return inputs | {"pooled_projections": pooled}
    if len(clips) == 1:
        return inputs
    pooled = torch.zeros(1, clips[1].config.projection_dim)
    return inputs | {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.zeros(1, 6)}}
