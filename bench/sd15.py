"""Build Stable Diffusion 1.5's shape with random weights: time and memory depend on shapes, not on values."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bench.common import STARTER

VOCABULARY = 49408


def build(folder: Path) -> Path:
    """Write the model to `folder`, in half precision but for the text encoder, which diffusers' script trains."""
    torch.manual_seed(0)
    small = CLIPTokenizer.from_pretrained(STARTER / "model" / "tokenizer")
    # Not added tokens: diffusers' `load_textual_inversion` takes minutes with tens of thousands of them.
    vocabulary = small.get_vocab() | {f"filler{i}": i for i in range(len(small), VOCABULARY)}
    lines = (STARTER / "model" / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(line.split()) for line in lines], model_max_length=77)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        sizes = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768, "num_attention_heads": 12}
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        text = CLIPTextModel(CLIPTextConfig(vocab_size=VOCABULARY, **sizes, **ids))
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(**blocks, block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512)
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = PNDMScheduler(**betas, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    networks = {"vae": vae.half(), "text_encoder": text, "unet": unet.half()}
    others = {"tokenizer": tokenizer, "scheduler": scheduler, "safety_checker": None, "feature_extractor": None}
    StableDiffusionPipeline(**networks, **others, requires_safety_checker=False).save_pretrained(folder)
    return folder
