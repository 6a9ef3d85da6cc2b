"""`python -m starter.recipe.polish`: the VAE's decoder goes on learning, on any machine; latents stay as they are.

Nothing that was trained on the latents changes. A little noise on them teaches the decoder to draw firm outlines from
latents that a denoiser has guessed.
"""

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from starter.recipe.options import parse
from starter.recipe.training import Trainer, counted
from starter.world import pixels

FIRST = 20_000_000  # seeds of its own: neither trained on before nor measured with
NOISE = 0.04


def main(arguments: list[str] | None = None) -> None:
    """out/model/vae => the same with a better decoder, float16."""
    options = parse(__doc__, arguments)
    torch.manual_seed(0)
    folder = options.out / "model" / "vae"
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).to(options.device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    batch = options.batch or 8
    trainer = Trainer("polish", vae, options, rate=2e-4, decay=0.97, warmup=10)

    def loss_of(step: int):
        rng = counted(5, step, options)
        drawn = np.stack([pixels(FIRST + step * batch + i) for i in range(batch)])
        x = torch.from_numpy(drawn).to(options.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mean
        z = z + NOISE * torch.randn(z.shape, generator=rng, device=z.device)
        y = vae.decode(z).sample
        return 4 * F.mse_loss(y, x) + 0.2 * (y - x).abs().mean(), {"mse": F.mse_loss(y, x)}

    trainer.fit(loss_of, every=10).half().save_pretrained(folder)


if __name__ == "__main__":
    main()
