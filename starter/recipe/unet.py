"""Train the denoiser on cached latents, with the text encoder of CLIP frozen.

v-prediction (Salimans and Ho 2022) with a schedule rescaled to zero terminal SNR (Lin et al. 2024): the usual schedule
can draw neither a white background nor a night sky.
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from starter.recipe.dataset import ImageDataset
from starter.recipe.distributed import destroy_process_group
from starter.recipe.options import parse_options
from starter.recipe.training import Trainer, maybe_compile, step_generator
from starter.recipe.vae import encode_mean

DROPOUT = 0.1  # of the caption, for classifier-free guidance


def build_unet(width: int, tiny: bool = False) -> UNet2DConditionModel:
    """Return the untrained denoiser; `width` is that of the text embeddings."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(16, 32) if tiny else (128, 160),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
    )


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule of training, which is also the scheduler of the exported pipeline."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


@torch.no_grad()
def cache_latents(vae: AutoencoderKL, dataset: ImageDataset) -> torch.Tensor:
    """Encode every image once, N x 8 x 16 x 16; mirroring is not needed, because poses face both sides."""
    indices = torch.arange(len(dataset.images), device=dataset.device).split(256)
    return torch.cat([encode_mean(vae, dataset.load(index)).to(torch.bfloat16) for index in indices])


@torch.no_grad()
def cache_text_embeddings(text_encoder: CLIPTextModel, tokens: torch.Tensor) -> torch.Tensor:
    """Encode every caption once: token ids N x K x L to embeddings N x K x L x D."""
    chunks = tokens.flatten(0, 1).split(4096)
    embeddings = [text_encoder(input_ids=chunk.long())[0].to(torch.bfloat16) for chunk in chunks]
    return torch.cat(embeddings).unflatten(0, tokens.shape[:2])


def main(arguments: list[str] | None = None) -> None:
    """Train on the drawn images, work/vae and work/clip; write the denoiser to work/unet."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    device = options.device
    vae = AutoencoderKL.from_pretrained(options.work / "vae").to(device).to(memory_format=torch.channels_last)
    text_encoder = CLIPTextModel.from_pretrained(options.work / "clip").to(device).eval()
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    dataset = ImageDataset(options.work, device, options.rank, options.world_size)
    latents, embeddings = cache_latents(vae, dataset), cache_text_embeddings(text_encoder, dataset.tokens)
    empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    unconditional = cache_text_embeddings(text_encoder, empty.to(device)[None])[0]
    del dataset.images
    print(f"latents {tuple(latents.shape)}, standard deviation {latents.float().std():.3f}", flush=True)
    unet = build_unet(embeddings.shape[-1], options.tiny).to(device).to(memory_format=torch.channels_last)
    scheduler = build_scheduler()
    batch = options.batch or 768
    trainer = Trainer("unet", unet, options, lr=8e-4, ema_decay=0.9995, warmup_steps=500)
    predict = maybe_compile(unet, options)

    def compute_loss(step: int) -> tuple[torch.Tensor, dict]:
        rng = step_generator(4, step, options)
        index = torch.randint(len(latents), (batch,), generator=rng, device=device)
        which = torch.randint(embeddings.shape[1], (batch,), generator=rng, device=device)
        drop = torch.rand(batch, 1, 1, generator=rng, device=device) < DROPOUT
        condition = torch.where(drop, unconditional, embeddings[index, which])
        x = latents[index].float().contiguous(memory_format=torch.channels_last)
        noise = torch.randn(x.shape, generator=rng, device=device)
        t = torch.randint(1000, (batch,), generator=rng, device=device)
        with torch.autocast(device, torch.bfloat16):
            prediction = predict(scheduler.add_noise(x, noise, t), t, condition).sample
        return F.mse_loss(prediction.float(), scheduler.get_velocity(x, noise, t)), {}

    ema = trainer.fit(compute_loss, log_every=500)
    if options.rank == 0:
        ema.save_pretrained(options.work / "unet")
    destroy_process_group()


if __name__ == "__main__":
    main()
