"""A base model as diffusers' own pipeline, with the learnt word in it: what draws pictures.

Legend: V vectors of the word, D width.
"""

from pathlib import Path

from transformers.utils import logging

logging.set_verbosity_error()  # before diffusers: its import warns that torchvision, of no use here, is not there

import diffusers  # noqa: E402
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.utils.logging import disable_progress_bar  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402

from stages import UserError  # noqa: E402
from stages.models.loading import family, load_part, load_settings  # noqa: E402
from stages.models.params import Model  # noqa: E402

SAMPLERS = {
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "lms": LMSDiscreteScheduler,
    "pndm": PNDMScheduler,
    "unipc": UniPCMultistepScheduler,
}
# These know no schedule whose last step has no signal at all, which they would silently take for another one.
NO_ZERO_SNR = ("lms", "pndm")


def open_pipeline(
    model: Model, scheduler: str | None, device: torch.device | str, dtype: torch.dtype
) -> StableDiffusionPipeline:
    """`model`, `render.scheduler` => diffusers' pipeline on `device`, at `dtype`, without a safety checker.

    The scheduler takes the base model's settings (prediction, betas, zero terminal signal, spacing of the timesteps);
    None is the one that the base model names. Only safetensors are read. Raises UserError as `load_part` does.
    """
    if family(model) != StableDiffusionPipeline.__name__:
        raise UserError(f"{model.base} is a {family(model)}; this stage draws with Stable Diffusion 1 and 2 only.")
    logging.disable_progress_bar()
    disable_progress_bar()
    pipeline = StableDiffusionPipeline(
        vae=load_part(AutoencoderKL, model, "vae", dtype),
        text_encoder=load_part(CLIPTextModel, model, "text_encoder", dtype).eval(),
        tokenizer=load_part(CLIPTokenizer, model, "tokenizer"),
        unet=load_part(UNet2DConditionModel, model, "unet", dtype),
        scheduler=_sampler(model, scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(device)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sampler(model: Model, name: str | None) -> SchedulerMixin:
    # What Stable Diffusion was published with, where a base model is silent: latents are no pictures, so nothing is
    # clipped; and PNDM takes no Runge-Kutta steps first, which would each cost four.
    settings = {"clip_sample": False, "skip_prk_steps": True, **load_settings(DDPMScheduler, model, "scheduler")}
    if name in NO_ZERO_SNR and settings.get("rescale_betas_zero_snr"):
        raise UserError(
            f"`render.scheduler` {name} cannot draw with {model.base}, which was trained down to pure noise "
            "(rescale_betas_zero_snr); choose ddim, dpm++, euler or unipc, or null."
        )
    if name is None:
        kind = getattr(diffusers, settings.get("_class_name", ""), None)
        if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
            raise UserError(
                f"the scheduler of {model.base} is a {settings.get('_class_name')!r}, which diffusers "
                f"{diffusers.__version__} does not know; set `render.scheduler`."
            )
    return (SAMPLERS[name] if name else kind).from_config(settings)


def add_embedding(pipeline: StableDiffusionPipeline, placeholder: str, word: Path | torch.Tensor) -> None:
    """A file of the learnt word, or its vectors (V D), go into the pipeline's tokenizer and text encoder.

    By diffusers' own way, so that in a prompt the placeholder stands for all V of them.
    """
    vectors = {placeholder: word} if isinstance(word, torch.Tensor) else str(word)
    if placeholder in pipeline.tokenizer.get_vocab():
        raise UserError(f"`concept.placeholder_token` {placeholder} is a word that this model knows already.")
    try:
        pipeline.load_textual_inversion(vectors, token=placeholder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"the word {placeholder} does not go into this model ({said}); learn it with this `model.base`: "
            "`dvc repro train`."
        ) from None
