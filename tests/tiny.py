"""A tiny Stable Diffusion and a tiny CLIP: random weights, but the real classes and files."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = "a an the photo of in style dragon cat creature night sea snow red small".split()  # noqa: SIM905
LENGTH = 16
WIDTH = 32


def tiny_tokenizer() -> CLIPTokenizer:
    """Build a byte-level BPE tokenizer in which each of WORDS is one token, and every other word several."""
    alphabet = [chr(c) for c in range(33, 127)]
    vocab = [*alphabet, *(c + "</w>" for c in alphabet)]
    merges = []
    for word in WORDS:
        left = word[0] if len(word) > 1 else word + "</w>"
        for i, char in enumerate(word[1:], 1):
            right = char + ("</w>" if i == len(word) - 1 else "")
            if (left, right) not in merges:
                merges.append((left, right))
                vocab.append(left + right)
            left += right
    vocab = [*dict.fromkeys(vocab), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocab)},
        merges=merges,
        model_max_length=LENGTH,
        pad_token="<|endoftext|>",
    )


def _text(tokenizer: CLIPTokenizer) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "projection_dim": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def tiny_model(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Save a Stable Diffusion for images of 32 px (4 latent channels, 8 x 8 latents) in `folder`."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    blocks = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1}
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        sample_size=32,
        **blocks,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**_text(tokenizer))).eval(),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def tiny_clip(folder: Path) -> Path:
    """Save a CLIP model for images of 32 px, with its processor's files, in `folder`."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
    }
    CLIPModel(CLIPConfig(text_config=_text(tokenizer), vision_config=vision, projection_dim=16)).eval().save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_processor_type": CLIPImageProcessor.__name__, "do_resize": True, "do_center_crop": True, **size}
        )
    )
    return folder
