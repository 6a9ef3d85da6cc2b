"""`python -m starter.recipe.unet`: the denoiser on cached latents, with the text encoder of CLIP frozen.

v-prediction (Salimans and Ho 2022) with a schedule rescaled to end in pure noise (Lin et al. 2024): with the usual one
neither a white page nor a night sky can be drawn.
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from starter.recipe.distributed import destroy_process_group
from starter.recipe.options import parse_options
from starter.recipe.training import ImageDataset, Trainer, maybe_compile, step_generator
from starter.recipe.vae import encode

DROPOUT = 0.1


def build_unet(width: int, tiny: bool = False) -> UNet2DConditionModel:
    """=> the denoiser, untrained."""
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
    """=> the schedule of training and of the saved pipeline."""
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
def cache_latents(vae: AutoencoderKL, world: ImageDataset) -> torch.Tensor:
    """=> N x 8 x 16 x 16: every picture, encoded once. The poses look to both sides already."""
    starts = range(0, len(world.images), 256)
    parts = [torch.arange(i, min(i + 256, len(world.images)), device=world.device) for i in starts]
    return torch.cat([encode(vae, world.load(part)).to(torch.bfloat16) for part in parts])


@torch.no_grad()
def cache_text_embeddings(text: CLIPTextModel, tokens: torch.Tensor) -> torch.Tensor:
    """N x K x L => N x K x L x D: what the frozen encoder says of every caption, once."""
    flat = tokens.flatten(0, 1)
    found = [text(input_ids=flat[i : i + 4096].long())[0].to(torch.bfloat16) for i in range(0, len(flat), 4096)]
    return torch.cat(found).unflatten(0, tokens.shape[:2])


def main(arguments: list[str] | None = None) -> None:
    """arrays, work/vae, work/clip => work/unet."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    device = options.device
    vae = AutoencoderKL.from_pretrained(options.work / "vae").to(device).to(memory_format=torch.channels_last)
    text = CLIPTextModel.from_pretrained(options.work / "clip").to(device).eval()
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    world = ImageDataset(options.work, device, options.rank, options.world)
    latents, texts = cache_latents(vae, world), cache_text_embeddings(text, world.tokens)
    blank = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    with torch.no_grad():
        nothing = text(input_ids=blank["input_ids"].to(device))[0].to(torch.bfloat16)
    del world.images
    print("latents", tuple(latents.shape), "deviation", round(float(latents.float().std()), 3), flush=True)
    unet = build_unet(texts.shape[-1], options.tiny).to(device).to(memory_format=torch.channels_last)
    alphas = build_scheduler().alphas_cumprod.to(device)
    batch = options.batch or 768
    trainer = Trainer("unet", unet, options, rate=8e-4, decay=0.9995, warmup=500)
    run = maybe_compile(unet, options)

    def compute_loss(step: int):
        rng = step_generator(4, step, options)
        index = torch.randint(len(latents), (batch,), generator=rng, device=device)
        which = torch.randint(texts.shape[1], (batch,), generator=rng, device=device)
        drop = torch.rand(batch, 1, 1, generator=rng, device=device) < DROPOUT
        said = torch.where(drop, nothing, texts[index, which])
        x = latents[index].float().contiguous(memory_format=torch.channels_last)
        noise = torch.randn(x.shape, generator=rng, device=device)
        t = torch.randint(1000, (batch,), generator=rng, device=device)
        signal = alphas[t].sqrt()[:, None, None, None]
        spread = (1 - alphas[t]).sqrt()[:, None, None, None]
        with torch.autocast(device, torch.bfloat16):
            guess = run(signal * x + spread * noise, t, said).sample
        return F.mse_loss(guess.float(), signal * noise - spread * x), {}

    average = trainer.fit(compute_loss, every=500)
    if options.rank == 0:
        average.save_pretrained(options.work / "unet")
    destroy_process_group()


if __name__ == "__main__":
    main()
