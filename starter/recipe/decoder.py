"""`python -m starter.recipe.decoder`: the committed VAE's decoder goes on learning; its latents stay what they are.

So the denoiser, which has learnt those latents, needs no further training.
"""

import torch
from diffusers import AutoencoderKL

from starter.recipe.export import remove_local_path
from starter.recipe.options import parse_options
from starter.recipe.training import ImageDataset, Trainer, maybe_compile, step_generator
from starter.recipe.vae import psnr, reconstruction_loss

LOG_MSE_WEIGHT = 0.02


class Decoder(torch.nn.Module):
    """latents => pictures: what of a VAE comes after its latents."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents))


def log_mse_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Mean log of the pictures' squared errors: the mean peak signal-to-noise ratio, but for sign and unit."""
    return (y - x).pow(2).mean((1, 2, 3)).clamp(min=1e-6).log().mean()


def main(arguments: list[str] | None = None) -> None:
    """arrays, out/model/vae => out/model/vae, float16."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    vae = AutoencoderKL.from_pretrained(options.out / "model/vae", torch_dtype=torch.float32).to(options.device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    decoder = Decoder(vae).to(memory_format=torch.channels_last)
    world = ImageDataset(options.work, options.device)
    batch = options.batch or 128
    trainer = Trainer("decoder", decoder, options, rate=4e-4, decay=0.998)
    run_encoder, run_decoder = maybe_compile(vae._encode, options), maybe_compile(decoder, options)

    def compute_loss(step: int):
        rng = step_generator(4, step, options)
        x = world.load(world.sample_indices(batch, rng), rng)
        with torch.no_grad():
            mean, logvar = run_encoder(x).chunk(2, 1)
        with torch.autocast(options.device, torch.bfloat16):
            # Half of the batch is drawn as a denoiser would: not quite at the mean.
            noise = torch.randn(mean.shape, generator=rng, device=x.device)
            noise[: batch // 2] = 0
            y = run_decoder(mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise).float()
        shown = {"psnr": psnr(y[: batch // 2].detach(), x[: batch // 2])} if step % 250 == 249 else {}
        return reconstruction_loss(y, x) + LOG_MSE_WEIGHT * log_mse_loss(y, x), shown

    vae.load_state_dict(trainer.fit(compute_loss).state_dict(), strict=False)
    vae.half().save_pretrained(options.out / "model/vae")
    remove_local_path(options.out / "model/vae/config.json")


if __name__ == "__main__":
    main()
