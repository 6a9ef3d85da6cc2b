"""Load the parts of a base model, from safetensors only, and put them together as a backbone."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.utils.logging import disable_progress_bar
from transformers.utils import logging

from stages.common.pretrained import check_config, load_model, loading
from stages.models.backbone import Backbone
from stages.models.checks import check_scheduler, check_shapes, check_tokenizer
from stages.models.families import PARTS, T5, family, known_family
from stages.models.hub import KEY
from stages.models.params import Concept, Model
from stages.models.stable_diffusion import StableDiffusion
from stages.models.stable_diffusion_3 import StableDiffusion3
from stages.models.stable_diffusion_xl import StableDiffusionXL
from stages.models.weight_storage import store_in_fp8

MAX_TIMESTEPS = 10**5
BACKBONES = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
}


def load_part(kind: type, model: Model, part: str, dtype: torch.dtype | None = None, key: str = KEY) -> object:
    """Load a part of the model, such as its `vae`. A part with weights has a `dtype`; it is frozen and complete."""
    with loading(model.base, key, part):
        options = {"subfolder": part, "revision": model.revision}
        if dtype is None:
            return kind.from_pretrained(model.base, **options)
        return load_model(kind, model.base, variant=model.variant, dtype=dtype, **options).requires_grad_(False)


def load_config(kind: type, model: Model, part: str, key: str = KEY) -> dict:
    """Load a part's configuration as it is written in its file, the name of its class included."""
    with loading(model.base, key, part):
        config = kind.load_config(model.base, subfolder=part, revision=model.revision)
        if not isinstance(config, dict):  # from_config takes a text for the name of a model
            raise ValueError("its config is no mapping")
        check_config(config, largest=MAX_TIMESTEPS)
        return config


def load_components(model: Model, dtype: torch.dtype, vae_dtype: torch.dtype) -> SimpleNamespace:
    """Load the parts of a base model under the names that diffusers' pipeline class gives them.

    The models are frozen and on the CPU. With `model.t5: none` T5 and its tokenizer are None. Raises UserError for a
    model of another family, and for a part that cannot be loaded or does not fit the others.
    """
    parts = {}
    for part, kind in PARTS[known_family(model)].items():
        if part in T5 and model.t5 == "none":
            parts[part] = None
        elif part == "scheduler":
            parts[part] = _load_scheduler(kind, model)
        elif part.startswith("tokenizer"):
            parts[part] = load_part(kind, model, part)
        else:
            parts[part] = load_part(kind, model, part, vae_dtype if part == "vae" else dtype)
    components = SimpleNamespace(**parts)
    for part in [part for part in parts if part.startswith("tokenizer") and parts[part]]:
        with loading(model.base, "model.base", part):
            check_tokenizer(components, part)
    with loading(model.base, "model.base"), torch.no_grad():
        check_shapes(components)
    if model.storage_dtype == "fp8":
        for part in ("unet", "transformer", "text_encoder_3"):
            if getattr(components, part, None):
                store_in_fp8(getattr(components, part))
    return components


def _load_scheduler(kind: type, model: Model) -> DDPMScheduler | FlowMatchEulerDiscreteScheduler:
    config = load_config(kind, model, "scheduler")
    with loading(model.base, "model.base", "scheduler"):
        scheduler = kind.from_config(config)
        check_scheduler(scheduler, str(config.get("_class_name")))
    return scheduler


def open_backbone(
    model: Model,
    concept: Concept,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    prepare: Callable[[torch.nn.Module], None] = lambda module: None,
    offload: bool | str = "auto",
) -> Backbone:
    """Load a base model onto `device` at `dtype`, each part after `prepare` was called with it; see `to_device`.

    Raises UserError for a missing folder or file, an unknown family, or weights that are not safetensors.
    """
    logging.disable_progress_bar()
    disable_progress_bar()
    parts = load_components(model, dtype, vae_dtype=torch.float32)
    backbone = BACKBONES[family(model)](parts, model, concept, torch.device(device), dtype)
    backbone.to_device(prepare, offload)
    return backbone
