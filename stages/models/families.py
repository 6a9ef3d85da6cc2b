"""Open a base model of any family for training."""

from collections.abc import Callable

import torch
from diffusers.utils.logging import disable_progress_bar
from transformers.utils import logging

from stages.models.backbone import Backbone
from stages.models.loading import known_family
from stages.models.params import Concept, Model
from stages.models.stable_diffusion import StableDiffusion
from stages.models.stable_diffusion_3 import StableDiffusion3
from stages.models.stable_diffusion_xl import StableDiffusionXL

FAMILIES = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
}


def open_backbone(
    model: Model,
    concept: Concept,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    prepare: Callable[[torch.nn.Module], None] = lambda module: None,
    offload: bool | str = "auto",
) -> Backbone:
    """Load the frozen model onto `device` at `dtype`, each part after `prepare` was called with it; see `to_device`.

    Raises UserError for a missing folder or file, an unknown family, or weights that are not safetensors.
    """
    kind = FAMILIES[known_family(model)]
    logging.disable_progress_bar()
    disable_progress_bar()
    backbone = kind(model, concept, torch.device(device), dtype)
    backbone.to_device(prepare, offload)
    return backbone
