"""Build Stable Diffusion 1.5's shape with random weights: time and memory depend on shapes, not on values."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

VOCABULARY = 49408


def build(folder: Path) -> Path:
    """Write the model to `folder`, in half precision but for the text encoder, which diffusers' script trains."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        ends = {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1, "pad_token_id": VOCABULARY - 1}
        sizes = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
        layers = {"num_hidden_layers": 12, "num_attention_heads": 12}
        text = CLIPTextModel(CLIPTextConfig(vocab_size=VOCABULARY, **sizes, **layers, **ends))
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=512,
        )
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text,
        tokenizer=_tokenizer(),
        unet=unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def _tokenizer() -> CLIPTokenizer:
    """Return a tokenizer of the original's size in which `dragon` is one token, and other words are characters."""
    characters = [chr(c) for c in range(33, 127)]
    pieces = ["d", "dr", "dra", "drag", "drago", "dragon</w>"]
    merges = [("d", "r"), ("dr", "a"), ("dra", "g"), ("drag", "o"), ("drago", "n</w>")]
    tokens = dict.fromkeys([*characters, *(c + "</w>" for c in characters), *pieces])
    filler = [f"filler{i}</w>" for i in range(VOCABULARY - 2 - len(tokens))]
    vocabulary = [*tokens, *filler, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocabulary)},
        merges=merges,
        model_max_length=77,
        pad_token="<|endoftext|>",
    )
