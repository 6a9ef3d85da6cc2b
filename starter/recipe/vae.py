"""Train the AutoencoderKL (f=8, 8 channels); each latent channel is whitened to mean 0 and standard deviation 1."""

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from starter.recipe.dataset import ImageDataset
from starter.recipe.options import parse_options
from starter.recipe.training import Trainer, maybe_compile, step_generator
from starter.world.rendering import SIDE

KL_WEIGHT = 1e-4
METRICS_EVERY = 250  # steps


def build_vae(tiny: bool = False) -> AutoencoderKL:
    """Return the untrained autoencoder."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16) if tiny else (32, 64, 96, 128),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8 if tiny else 16,
        sample_size=SIDE,
        scaling_factor=1.0,
    )


def image_gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the differences of neighbouring pixels, horizontally and vertically."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return L1 of the pixels, plus half of L1 of the image gradients, plus half of the mean squared error."""
    gradients = zip(image_gradients(y), image_gradients(x), strict=True)
    edges = sum((a - b).abs().mean() for a, b in gradients)
    return (y - x).abs().mean() + 0.5 * edges + 0.5 * F.mse_loss(y, x)


def psnr(y: torch.Tensor, x: torch.Tensor) -> float:
    """Return the mean peak signal-to-noise ratio, in dB, of images in -1..1."""
    error = ((y.float().clamp(-1, 1) - x) / 2).pow(2).mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def encode_mean(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    """Encode images to the means of their latents, in float32."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
        return vae.encode(x).latent_dist.mean.float()


@torch.no_grad()
def whiten_latents(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Fold the mean and deviation of each channel into the two 1x1 convolutions, so that `scaling_factor` is 1."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    to_latents, from_latents = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    to_latents.bias[:count] -= mean
    to_latents.weight[:count] /= std[:, None, None, None]
    to_latents.bias[:count] /= std
    to_latents.bias[count:] -= 2 * std.log()
    from_latents.bias += (from_latents.weight[:, :, 0, 0] * mean).sum(1)
    from_latents.weight *= std[None, :, None, None]


def main(arguments: list[str] | None = None) -> None:
    """Train on the drawn images; write the autoencoder to work/vae."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    vae = build_vae(options.tiny).to(options.device).to(memory_format=torch.channels_last)
    dataset = ImageDataset(options.work, options.device)
    batch = options.batch or 96
    trainer = Trainer("vae", vae, options, lr=8e-4, ema_decay=0.998)
    encode, decode = maybe_compile(vae._encode, options), maybe_compile(vae._decode, options)

    def compute_loss(step: int) -> tuple[torch.Tensor, dict]:
        rng = step_generator(3, step, options)
        x = dataset.load(dataset.sample_indices(batch, rng), rng)
        with torch.autocast(options.device, torch.bfloat16):
            mean, logvar = encode(x).float().chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            z = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=rng, device=x.device)
            y = decode(z, return_dict=False)[0].float()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        metrics = {"psnr": psnr(y.detach(), x), "kl": kl} if (step + 1) % METRICS_EVERY == 0 else {}
        return reconstruction_loss(y, x) + KL_WEIGHT * kl, metrics

    vae = trainer.fit(compute_loss)
    batches = torch.arange(min(4096, len(dataset.images))).split(64)
    whiten_latents(vae, torch.cat([encode_mean(vae, dataset.load(index)) for index in batches]))
    x = dataset.load(batches[0])
    with torch.no_grad():
        print(f"vae: PSNR after whitening {psnr(vae.decode(encode_mean(vae, x)).sample, x):.2f} dB", flush=True)
    vae.save_pretrained(options.work / "vae")


if __name__ == "__main__":
    main()
