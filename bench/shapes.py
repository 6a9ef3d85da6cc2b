"""Build the shapes of large models with random weights: time and memory depend on shapes, not on values."""

from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel

from bench.common import STARTER

VOCABULARY = 49408
SIDES = {"sd15": 512, "sdxl": 1024, "sd35-medium": 1024, "sd35-large": 1024}  # px, by model
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


def build(name: str, folder: Path) -> Path:
    """Write a model of SIDES to `folder`, in half precision but for the text encoders of Stable Diffusion 1.5 and XL,
    which diffusers' scripts train.
    """
    torch.manual_seed(0)
    kinds = {"sd15": diffusers.StableDiffusionPipeline, "sdxl": diffusers.StableDiffusionXLPipeline}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        pipeline = kinds.get(name, diffusers.StableDiffusion3Pipeline)(**parts(name))
    pipeline.save_pretrained(folder)
    return folder


def parts(name: str) -> dict[str, object]:
    """Return the parts of a model of SIDES by name."""
    return {"sd15": _sd15, "sdxl": _sdxl}[name]() if name in ("sd15", "sdxl") else _sd35(name)


def _sd15() -> dict[str, object]:
    scheduler = diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    clip = {"tokenizer": _tokenizer(), "text_encoder": transformers.CLIPTextModel(_clip())}
    return none | clip | {"vae": _vae(512), "unet": unet.half(), "scheduler": scheduler}


def _sdxl() -> dict[str, object]:
    with torch.device("cpu"):  # it computes with its numbers
        scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return {
        "tokenizer": _tokenizer(),
        "tokenizer_2": _tokenizer("!"),
        "text_encoder": transformers.CLIPTextModel(_clip()),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(_clip(**BIG_G, hidden_act="gelu")),
        "vae": _vae(1024, scaling_factor=0.13025, force_upcast=True),
        "unet": unet.half(),
        "scheduler": scheduler,
    }


def _sd35(name: str) -> dict[str, object]:
    size = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192}
    if name == "sd35-medium":
        size = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384}
        size["dual_attention_layers"] = tuple(range(13))
    torch.set_default_dtype(torch.float16)  # the models do not fit in float32
    t5 = transformers.T5Config(
        d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
        vocab_size=32128, tie_word_embeddings=False,
    )  # fmt: skip
    letters = [(c, 0.0) for c in ["<pad>", "</s>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]]
    parts = {
        "tokenizer": _tokenizer(),
        "tokenizer_2": _tokenizer("!"),
        "tokenizer_3": transformers.T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=512),
        "text_encoder": transformers.CLIPTextModelWithProjection(_clip()),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(_clip(**BIG_G, hidden_act="gelu")),
        "text_encoder_3": transformers.T5EncoderModel(t5),
        "vae": _vae(1024, latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False),
        "transformer": SD3Transformer2DModel(
            sample_size=128, in_channels=16, out_channels=16, joint_attention_dim=4096, pooled_projection_dim=2048,
            attention_head_dim=64, qk_norm="rms_norm", **size,
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }  # fmt: skip
    torch.set_default_dtype(torch.float32)
    return parts


def _tokenizer(pad: str = "<|endoftext|>") -> transformers.CLIPTokenizer:
    small = transformers.CLIPTokenizer.from_pretrained(STARTER / "model" / "tokenizer")
    # Not added tokens: diffusers' `load_textual_inversion` takes minutes with tens of thousands of them.
    vocabulary = small.get_vocab() | {f"filler{i}": i for i in range(len(small), VOCABULARY)}
    lines = (STARTER / "model" / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    merges = [tuple(line.split()) for line in lines]
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=pad)


def _clip(**changed: object) -> transformers.CLIPTextConfig:
    """Return the config of CLIP-L's text encoder, with changes."""
    tokenizer, size = _tokenizer(), {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    size |= changed
    return transformers.CLIPTextConfig(vocab_size=VOCABULARY, projection_dim=size["hidden_size"], **size, **ids)


def _vae(side: int, **settings: object) -> AutoencoderKL:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    channels = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    return AutoencoderKL(**blocks, **channels, sample_size=side, **settings).half()
