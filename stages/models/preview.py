"""A quick picture of what a word means so far, drawn by the model that is being trained: no second copy of it.

Legend: B batch, V vectors of the word, D width, c h w latent, H W picture.
"""

import numpy as np
import torch

from stages.models.backbone import Backbone
from stages.models.noise import normal
from stages.models.schedule import Schedule

STEPS = 20
GUIDANCE = 5.0


@torch.no_grad()
def preview(backbone: Backbone, caption: str, vectors: np.ndarray, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A caption with the placeholder, vectors (V D), a latent's shape (c h w) => a picture (H W 3), bytes.

    DDIM without noise (Song et al. 2021, eq. 12) with classifier-free guidance (Ho & Salimans 2022, eq. 6), from the
    same noise every time: a change of the picture is a change of the word.
    """
    device, schedule = backbone.device, backbone.schedule.to("cpu")
    new = torch.from_numpy(vectors).to(device)
    contexts = [backbone.context(ids.to(device), new) for ids in (backbone.tokenize([caption]), backbone.blank())]
    noisy = torch.from_numpy(normal(seed, "render", 0, 0, (1, *shape))).to(device)
    times = np.linspace(schedule.timesteps, 0, STEPS, endpoint=False).round().astype(int) - 1
    for time, following in zip(times, [*times[1:], None], strict=True):
        here = torch.full((1,), int(time), device=device)
        worded, blank = (backbone.predict(noisy, here, context) for context in contexts)
        noisy = step(schedule, noisy, blank + GUIDANCE * (worded - blank), int(time), following)
    pixels = backbone.decode(noisy)[0].permute(1, 2, 0)
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def step(
    schedule: Schedule, noisy: torch.Tensor, predicted: torch.Tensor, time: int, following: int | None
) -> torch.Tensor:
    """noisy (B c h w) at `time`, the network's word on it => noisy at `following`; None: clean."""
    power = schedule.alphas_cumprod[time].item()
    signal, sigma = power**0.5, (1 - power) ** 0.5
    if schedule.prediction_type == "v_prediction":
        clean, noise = signal * noisy - sigma * predicted, sigma * noisy + signal * predicted
    elif schedule.prediction_type == "sample":
        clean, noise = predicted, (noisy - signal * predicted) / sigma
    else:
        clean, noise = (noisy - sigma * predicted) / signal, predicted
    power = 1.0 if following is None else schedule.alphas_cumprod[int(following)].item()
    return power**0.5 * clean + (1 - power) ** 0.5 * noise
