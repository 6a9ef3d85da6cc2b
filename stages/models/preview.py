"""Draw a preview with the model that is being trained, without a second copy of it.

Legend: V vectors of the embedding, D width, c h w latent, H W image.
"""

import numpy as np
import torch
from diffusers import DDIMScheduler

from stages.models.backbone import Backbone
from stages.models.noise import normal

STEPS = 20
GUIDANCE = 5.0


@torch.no_grad()
def preview(backbone: Backbone, caption: str, vectors: torch.Tensor, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draw `caption` with the embedding `vectors` (V D) from latents of `shape` (c h w), and return (H W 3) uint8.

    DDIM (Song et al. 2021) with classifier-free guidance (Ho & Salimans 2022). The noise depends on the seed alone, so
    that two previews differ by their embeddings only.
    """
    device = backbone.device
    new = vectors.to(device)
    prompts = [
        backbone.encode_prompt(ids.to(device), new) for ids in (backbone.tokenize([caption]), backbone.empty_prompt())
    ]
    scheduler = DDIMScheduler.from_config(
        backbone.scheduler_config, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(STEPS)
    latents = torch.from_numpy(normal(seed, "render", 0, 0, (1, *shape))).to(device)
    for timestep in scheduler.timesteps:
        batch = timestep.to(device).expand(1)
        conditional, unconditional = (backbone.predict(latents, batch, prompt) for prompt in prompts)
        guided = unconditional + GUIDANCE * (conditional - unconditional)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    pixels = backbone.decode(latents)[0].permute(1, 2, 0)
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
