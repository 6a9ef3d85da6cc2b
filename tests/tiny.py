"""Tiny Stable Diffusions and a tiny CLIP: random weights and small widths, but the real classes, settings and files."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WORDS = "a an the photo of in style dragon cat creature night sea snow red small".split()  # noqa: SIM905
LENGTH = 16
WIDTH = 32
WIDTH_G, WIDTH_T5 = 40, 96
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tiny_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
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
        pad_token=pad,
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


def _vae(channels: int = 4, **config: object) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=channels,
        sample_size=32,
        **config,
    )


def _unet(**config: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **config,
    )


def tiny_model(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Save a Stable Diffusion for images of 32 px (4 latent channels, 8 x 8 latents) in `folder`."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    vae, unet = _vae(), _unet(cross_attention_dim=WIDTH)
    scheduler = DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type
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


def tiny_sdxl(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Save a Stable Diffusion XL for images of 32 px in `folder`."""
    torch.manual_seed(0)
    StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=CLIPTextModel(_clip_l()).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_g()).eval(),
        tokenizer=tiny_tokenizer(),
        tokenizer_2=tiny_tokenizer("!"),
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=2,
            block_out_channels=(8, 16, 32),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(1, 2, 4),
            transformer_layers_per_block=(1, 1, 2),
            cross_attention_dim=WIDTH + WIDTH_G,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH_G + 6 * 8,  # the pooled prompt and six numbers
        ),
        scheduler=EulerDiscreteScheduler(
            **BETAS, timestep_spacing="leading", steps_offset=1, prediction_type=prediction_type
        ),
    ).save_pretrained(folder)
    return folder


def tiny_sd3(folder: Path, **changed: object) -> Path:
    """Save a Stable Diffusion 3.5 Medium for images of 32 px, with two CLIP encoders and T5, in `folder`.

    `changed` are settings of its transformer.
    """
    torch.manual_seed(0)
    t5 = T5Config(
        vocab_size=64,  # more rows than its tokenizer has tokens
        d_model=WIDTH_T5,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    letters = [(c, 0.0) for c in ["<pad>", "</s>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]]
    settings = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 2,
        "dual_attention_layers": (0,),
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": WIDTH_T5,
        "caption_projection_dim": 32,
        "pooled_projection_dim": WIDTH + WIDTH_G,
        "pos_embed_max_size": 8,
        "qk_norm": "rms_norm",
    }
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**settings | changed),
        vae=_vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(_clip_l()).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_g()).eval(),
        text_encoder_3=T5EncoderModel(t5).eval(),
        tokenizer=tiny_tokenizer(),
        tokenizer_2=tiny_tokenizer("!"),
        tokenizer_3=T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=512),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)
    return folder


def _clip_l() -> CLIPTextConfig:
    # 2 is what the real configs say, though the tokenizer has another id for it.
    return CLIPTextConfig(**_text(tiny_tokenizer()) | {"projection_dim": WIDTH, "eos_token_id": 2})


def _clip_g() -> CLIPTextConfig:
    size = {"hidden_size": WIDTH_G, "projection_dim": WIDTH_G, "num_hidden_layers": 3, "hidden_act": "gelu"}
    return CLIPTextConfig(**_text(tiny_tokenizer()) | size | {"eos_token_id": 2})


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
