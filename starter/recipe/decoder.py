"""Train the decoder of the exported VAE further; the encoder and so the latents stay as they are.

The denoiser, which was trained on those latents, needs no further training.
"""

import torch
from diffusers import AutoencoderKL

from starter.recipe.dataset import ImageDataset
from starter.recipe.export import remove_local_path
from starter.recipe.options import parse_options
from starter.recipe.training import Trainer, maybe_compile, step_generator
from starter.recipe.vae import METRICS_EVERY, psnr, reconstruction_loss

LOG_MSE_WEIGHT = 0.02


class Decoder(torch.nn.Module):
    """Convert latents to images: the part of a VAE after its latents."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents))


def log_mse_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of the log of the squared error: mean PSNR up to sign and unit."""
    return (y - x).pow(2).mean((1, 2, 3)).clamp(min=1e-6).log().mean()


def main(arguments: list[str] | None = None) -> None:
    """Train on the drawn images; replace out/model/vae (float16)."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    vae = AutoencoderKL.from_pretrained(options.out / "model/vae", torch_dtype=torch.float32).to(options.device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    decoder = Decoder(vae).to(memory_format=torch.channels_last)
    dataset = ImageDataset(options.work, options.device)
    batch = options.batch or 128
    trainer = Trainer("decoder", decoder, options, lr=4e-4, ema_decay=0.998)
    encode, decode = maybe_compile(vae._encode, options), maybe_compile(decoder, options)

    def compute_loss(step: int) -> tuple[torch.Tensor, dict]:
        rng = step_generator(4, step, options)
        x = dataset.load(dataset.sample_indices(batch, rng), rng)
        with torch.no_grad():
            mean, logvar = encode(x).chunk(2, 1)
        with torch.autocast(options.device, torch.bfloat16):
            # The second half of the batch is sampled: a denoiser does not return exactly the mean either.
            noise = torch.randn(mean.shape, generator=rng, device=x.device)
            noise[: batch // 2] = 0
            y = decode(mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise).float()
        log_metrics = (step + 1) % METRICS_EVERY == 0
        metrics = {"psnr": psnr(y[: batch // 2].detach(), x[: batch // 2])} if log_metrics else {}
        return reconstruction_loss(y, x) + LOG_MSE_WEIGHT * log_mse_loss(y, x), metrics

    vae.load_state_dict(trainer.fit(compute_loss).state_dict(), strict=False)
    vae.half().save_pretrained(options.out / "model/vae")
    remove_local_path(options.out / "model/vae/config.json")


if __name__ == "__main__":
    main()
