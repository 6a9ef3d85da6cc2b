"""`python -m starter.recipe.vae`: AutoencoderKL, f=8, 8 channels, each whitened to mean 0 and deviation 1."""

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from starter.recipe.options import parse_options
from starter.recipe.training import ImageDataset, Trainer, maybe_compile, step_generator
from starter.world.rendering import SIDE

KL_WEIGHT = 1e-4


def build_vae(tiny: bool = False) -> AutoencoderKL:
    """=> the autoencoder, untrained."""
    channels = (8, 8, 16, 16) if tiny else (32, 64, 96, 128)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8 if tiny else 16,
        sample_size=SIDE,
        scaling_factor=1.0,
    )


def image_gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """=> differences between neighbours across and down: where the outlines are."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 of the pixels, of their image_gradients, and a squared term for the peak signal-to-noise ratio."""
    edges = sum((a - b).abs().mean() for a, b in zip(image_gradients(y), image_gradients(x), strict=True))
    return (y - x).abs().mean() + 0.5 * edges + 0.5 * F.mse_loss(y, x)


@torch.no_grad()
def encode(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    """pictures => the mean of their latents, float32."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
        return vae.encode(x).latent_dist.mean.float()


@torch.no_grad()
def whiten_latents(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Folds the channels' means and deviations into the two 1x1 convolutions, so that `scaling_factor` is 1."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    into.bias[:count] -= mean
    into.weight[:count] /= std[:, None, None, None]
    into.bias[:count] /= std
    into.bias[count:] -= 2 * std.log()
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight *= std[None, :, None, None]


def psnr(y: torch.Tensor, x: torch.Tensor) -> float:
    """=> mean peak signal-to-noise ratio in dB of pictures in -1..1."""
    error = ((y.float().clamp(-1, 1) - x) / 2).pow(2).mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def main(arguments: list[str] | None = None) -> None:
    """arrays => work/vae."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    vae = build_vae(options.tiny).to(options.device).to(memory_format=torch.channels_last)
    world = ImageDataset(options.work, options.device)
    batch = options.batch or 96
    trainer = Trainer("vae", vae, options, rate=8e-4, decay=0.998)
    run_encoder, run_decoder = maybe_compile(vae._encode, options), maybe_compile(vae._decode, options)

    def compute_loss(step: int):
        rng = step_generator(3, step, options)
        x = world.load(world.sample_indices(batch, rng), rng)
        with torch.autocast(options.device, torch.bfloat16):
            moments = run_encoder(x).float()
            mean, logvar = moments.chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            z = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=rng, device=x.device)
            y = run_decoder(z, return_dict=False)[0].float()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return reconstruction_loss(y, x) + KL_WEIGHT * kl, {
            "psnr": psnr(y.detach(), x),
            "kl": kl,
        } if step % 250 == 249 else {}

    best = trainer.fit(compute_loss)
    some = torch.cat(
        [encode(best, world.load(torch.arange(i, i + 64) % len(world.images))) for i in range(0, 4096, 64)]
    )
    whiten_latents(best, some)
    x = world.load(torch.arange(64) % len(world.images))
    with torch.no_grad():
        print("vae: whitened, psnr", round(psnr(best.decode(encode(best, x)).sample, x), 2), flush=True)
    best.save_pretrained(options.work / "vae")


if __name__ == "__main__":
    main()
