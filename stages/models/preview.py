"""Draw a preview with the model that is being trained, without a second copy of it.

Legend: V vectors of the embedding, D width, c h w latent, H W image.
"""

import numpy as np
import torch

from stages.models.backbone import Backbone
from stages.models.philox import normal

STEPS = 20
GUIDANCE = 5.0


@torch.no_grad()
def preview(
    backbone: Backbone, caption: str, vectors: torch.Tensor, shape: tuple[int, ...], sizes: torch.Tensor, *, seed: int
) -> np.ndarray:
    """Draw `caption` with the embedding `vectors` (V D) from latents of `shape` (c h w), and return (H W 3) uint8.

    The scheduler adds no noise between its steps, of which there are few; with classifier-free guidance (Ho & Salimans
    2022). `sizes` (1 6) condition the denoiser. The noise depends on the seed alone, so that two previews differ by
    their embeddings only.
    """
    device, scheduler = backbone.device, backbone.scheduler
    new, sizes = vectors.to(device), sizes.to(device)
    prompts = [
        backbone.encode_prompt(ids.to(device), new)
        for ids in (backbone.text.tokenize([caption]), backbone.text.empty_prompt())
    ]
    scheduler.set_timesteps(STEPS)
    latents = torch.from_numpy(normal(seed, "render", 0, 0, (1, *shape))).to(device)
    for timestep in scheduler.timesteps:
        batch = timestep.to(device).expand(1)
        conditional, unconditional = (backbone.predict(latents, batch, prompt, sizes) for prompt in prompts)
        guided = unconditional + GUIDANCE * (conditional - unconditional)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    pixels = backbone.decode(latents)[0].permute(1, 2, 0)
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
