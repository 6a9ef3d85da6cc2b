"""Open a base model as diffusers' own pipeline."""

from transformers.utils import logging

# Before diffusers, whose import warns that torchvision, which nothing here needs, is not installed.
logging.set_verbosity_error()

import diffusers  # noqa: E402
import torch  # noqa: E402
from diffusers import DiffusionPipeline  # noqa: E402
from diffusers.utils.logging import disable_progress_bar  # noqa: E402

from stages import UserError  # noqa: E402
from stages.common.pretrained import loading  # noqa: E402
from stages.models.families import family, read_index  # noqa: E402
from stages.models.loading import load_components, load_config  # noqa: E402
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


def open_pipeline(model: Model, render: Render, device: torch.device | str) -> DiffusionPipeline:
    """Return the pipeline of a base model for `device`, on the CPU, from safetensors only, without a safety checker.

    The scheduler takes the base model's settings (prediction type, betas, zero terminal SNR, timestep spacing, shift).
    Raises UserError for a model that cannot be used.
    """
    dtype = DTYPES[choose_precision(render, model, torch.device(device))]
    logging.disable_progress_bar()
    disable_progress_bar()
    components = load_components(model, dtype, torch.float32 if _upcasts_vae(model) else dtype)
    denoiser = getattr(components, "unet", None) or components.transformer
    side = denoiser.config.sample_size
    if not (isinstance(side, int) and 0 < side <= 1024) and not (render.height and render.width):
        raise UserError(f"the denoiser of {model.base} has sample_size {side}; set `render.height` and `render.width`.")
    parts = vars(components) | {"scheduler": _open_scheduler(model, render)}
    pipeline = getattr(diffusers, family(model))(**parts | _options(model))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _options(model: Model) -> dict[str, object]:
    """Return what a pipeline is made of besides the parts that are loaded."""
    index = read_index(model)
    if index["_class_name"] == "StableDiffusionPipeline":
        return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if index["_class_name"] == "StableDiffusionXLPipeline":
        # It draws a watermark if another library is installed.
        zeros = index.get("force_zeros_for_empty_prompt", True)
        return {"force_zeros_for_empty_prompt": bool(zeros), "add_watermarker": False}
    return {}


def _upcasts_vae(model: Model) -> bool:
    """Return whether a pipeline needs its VAE in float32, because it exceeds the range of float16, as SDXL's does."""
    is_xl = family(model) == "StableDiffusionXLPipeline"
    return is_xl and bool(load_config(diffusers.AutoencoderKL, model, "vae").get("force_upcast", True))


def choose_precision(render: Render, model: Model, device: torch.device) -> str:
    """Return `render.precision`, with `auto` resolved for a model and a device."""
    if render.precision != "auto":
        return render.precision
    if device.type != "cuda":
        return "fp32"
    if family(model) == "StableDiffusion3Pipeline":
        return "bf16"
    # Set for models such as Stable Diffusion 2.1, whose attention scores exceed the range of float16.
    upcast = load_config(diffusers.UNet2DConditionModel, model, "unet").get("upcast_attention")
    return "bf16" if upcast else "fp16"


def _open_scheduler(model: Model, render: Render) -> diffusers.SchedulerMixin:
    name, settings = render.scheduler, load_config(diffusers.DDPMScheduler, model, "scheduler")
    is_flow = settings.get("_class_name") == "FlowMatchEulerDiscreteScheduler"
    if name and is_flow:
        raise UserError(
            f"`render.scheduler` {name} does not support rectified flow, which {model.base} uses; set null."
        )
    # Defaults of Stable Diffusion, for a base model that does not set them: latents are not clipped like pixels, and
    # PNDM skips its Runge-Kutta steps, each of which would evaluate the model four times.
    settings = ({} if is_flow else {"clip_sample": False, "skip_prk_steps": True}) | settings
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
