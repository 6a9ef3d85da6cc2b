"""=> a folder with a Stable Diffusion of random weights: `sd15` has the shape of version 1.5, `tiny` that of the tests.

Times and memory depend on shapes, not on what was learnt; so a bench needs no download.
"""

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.tiny import tiny_model, tiny_tokenizer

VOCABULARY = 49408


def sd15(folder: Path) -> None:
    """=> `folder`, in half precision, with a table of 49,408 words as the original has."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                projection_dim=768,
                bos_token_id=VOCABULARY - 2,
                eos_token_id=VOCABULARY - 1,
                pad_token_id=VOCABULARY - 1,
            )
        )
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
        text_encoder=text,  # the script trains its table, which half precision forbids
        tokenizer=_tokenizer(),
        unet=unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def _tokenizer() -> CLIPTokenizer:
    """The tests' tokenizer with as many entries as the original has."""
    small = tiny_tokenizer()
    known = sorted(small.get_vocab(), key=small.get_vocab().get)
    ends = [small.bos_token, small.eos_token]
    words = [word for word in known if word not in ends]
    words += [f"filler{i}</w>" for i in range(VOCABULARY - len(words) - 2)]
    merges = []
    for word in ("photo", "of", "the", "dragon"):
        left = word[0]
        for i, char in enumerate(word[1:], 1):
            right = char + ("</w>" if i == len(word) - 1 else "")
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
    return CLIPTokenizer(
        vocab={word: i for i, word in enumerate([*words, *ends])},
        merges=merges,
        model_max_length=77,
        pad_token=small.eos_token,
    )


if __name__ == "__main__":
    {"sd15": sd15, "tiny": tiny_model}[sys.argv[1]](Path(sys.argv[2]))
