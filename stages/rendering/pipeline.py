"""Open a base model as diffusers' own pipeline, with the learned embedding in it."""

from pathlib import Path

from transformers.utils import logging

# Before diffusers, whose import warns that torchvision, which nothing here needs, is not installed.
logging.set_verbosity_error()

import diffusers  # noqa: E402
import torch  # noqa: E402
from diffusers import StableDiffusionPipeline  # noqa: E402
from diffusers.utils.logging import disable_progress_bar  # noqa: E402
from safetensors import SafetensorError  # noqa: E402

from stages import UserError  # noqa: E402
from stages.common.pretrained import loading  # noqa: E402
from stages.common.read_outs import read_embedding  # noqa: E402
from stages.models.components import load_components  # noqa: E402
from stages.models.model_files import family, load_config  # noqa: E402
from stages.models.params import Model  # noqa: E402
from stages.rendering.params import Render  # noqa: E402

SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "ddpm": diffusers.DDPMScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "pndm": diffusers.PNDMScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# These ignore `rescale_betas_zero_snr` without a warning, and would sample from another noise schedule.
WITHOUT_ZERO_SNR = ("lms", "pndm")


def open_pipeline(model: Model, render: Render, device: torch.device | str) -> StableDiffusionPipeline:
    """Return the pipeline of a base model on `device`, from safetensors only and without a safety checker.

    The scheduler takes the base model's settings (prediction type, betas, zero terminal SNR, timestep spacing).
    Raises UserError for a model that cannot be used.
    """
    if family(model) != StableDiffusionPipeline.__name__:
        raise UserError(f"{model.base} is a {family(model)}; only Stable Diffusion 1 and 2 can be rendered.")
    dtype = DTYPES[choose_precision(render, model, torch.device(device))]
    logging.disable_progress_bar()
    disable_progress_bar()
    components = load_components(model, dtype, vae_dtype=dtype)
    side = components.unet.config.sample_size
    if not (isinstance(side, int) and 0 < side <= 1024) and not (render.height and render.width):
        raise UserError(f"the unet of {model.base} has sample_size {side}; set `render.height` and `render.width`.")
    pipeline = StableDiffusionPipeline(
        **vars(components) | {"scheduler": _open_scheduler(model, render)},
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(device)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def choose_precision(render: Render, model: Model, device: torch.device) -> str:
    """Return `render.precision`, with `auto` resolved for a model and a device."""
    if render.precision != "auto":
        return render.precision
    if device.type != "cuda":
        return "fp32"
    # Set for models such as Stable Diffusion 2.1, whose attention scores exceed the range of float16.
    upcast = load_config(diffusers.UNet2DConditionModel, model, "unet").get("upcast_attention")
    return "bf16" if upcast else "fp16"


def _open_scheduler(model: Model, render: Render) -> diffusers.SchedulerMixin:
    # Defaults of Stable Diffusion, for a base model that does not set them: latents are not clipped like pixels, and
    # PNDM skips its Runge-Kutta steps, each of which would evaluate the model four times.
    name, settings = render.scheduler, {"clip_sample": False, "skip_prk_steps": True}
    settings |= load_config(diffusers.DDPMScheduler, model, "scheduler")
    if name in WITHOUT_ZERO_SNR and settings.get("rescale_betas_zero_snr"):
        raise UserError(
            f"`render.scheduler` {name} does not support zero terminal SNR, which {model.base} was trained with "
            "(rescale_betas_zero_snr); choose ddim, dpm++, euler or unipc, or null."
        )
    own = str(settings.get("_class_name", ""))
    scheduler = SCHEDULERS[name] if name else getattr(diffusers, own, None)
    if not (isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin)):
        raise UserError(
            f"the scheduler of {model.base} is {own!r}, which diffusers {diffusers.__version__} does not have; "
            "set `render.scheduler`."
        )
    with loading(model.base, "model.base", "scheduler"):
        scheduler = scheduler.from_config(settings)
        for setting in render.settings():
            scheduler.set_timesteps(setting.steps)
    return scheduler


def add_embedding(pipeline: StableDiffusionPipeline, placeholder: str, embedding: Path) -> None:
    """Add the placeholder token and its vectors, read from a learned_embeds.safetensors, to a pipeline.

    diffusers expands the token in a prompt to one token per vector.
    """
    if placeholder in pipeline.tokenizer.get_vocab():
        raise UserError(f"`concept.placeholder_token` {placeholder} is a token of this model; choose another.")
    read_embedding(embedding)
    try:
        pipeline.load_textual_inversion(str(embedding), token=placeholder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{embedding} does not fit this model ({' '.join(str(error).split())[:200]}); "
            "run `dvc repro train` with this `model.base`."
        ) from None
