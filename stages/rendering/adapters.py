"""What differs between the families of models: the encoding of prompts, the call of the denoiser, the scale of latents.

The arithmetic is that of diffusers' pipelines. Legend: B batch, L tokens of a prompt, D width, c h w latent.
"""

import torch
from diffusers import DiffusionPipeline
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from stages import UserError
from stages.models.cuda_graph import Tensors
from stages.models.text_encoders import T5_LENGTH


class StableDiffusionAdapter:
    """Stable Diffusion 1.x and 2.x. An encoded prompt is its embeddings (L D)."""

    denoiser = "unet"
    memory_format = torch.channels_last  # in which the denoiser is fastest
    zeros_for_empty = False  # whether the tensors of an empty negative prompt are zeros
    has_t5 = False

    def __init__(self, pipeline: DiffusionPipeline, size: tuple[int, int]) -> None:
        """Take a pipeline, and the width and height of its images in pixels."""
        self.pipeline, self.size = pipeline, size

    def tokenizers(self) -> list[PreTrainedTokenizerBase]:
        """Return the pipeline's CLIP tokenizers. They have the same tokens, but may fill up prompts differently."""
        names = ("tokenizer", "tokenizer_2")
        return [tokenizer for name in names if (tokenizer := getattr(self.pipeline, name, None))]

    def encoders(self) -> list[torch.nn.Module]:
        """Return the text encoders that the adapted pipeline has."""
        names = ("text_encoder", "text_encoder_2", "text_encoder_3")
        return [encoder for name in names if (encoder := getattr(self.pipeline, name, None))]

    def encode(self, ids: list[torch.Tensor], text: str) -> Tensors:
        """Encode a prompt by the adapted pipeline, from its ids (1 L) and its text for T5; no batch axis."""
        return (self.pipeline.text_encoder(ids[0])[0][0],)

    def predict(self, denoiser: torch.nn.Module, latents: torch.Tensor, timesteps: torch.Tensor, *prompt: torch.Tensor):
        """Call the denoiser with the inputs of this family; return its prediction (B c h w) in a tuple."""
        return denoiser(latents, timesteps, *prompt, return_dict=False)

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents (B c h w) on the scale of the adapted pipeline's VAE."""
        return latents / self.pipeline.vae.config.scaling_factor


class StableDiffusionXLAdapter(StableDiffusionAdapter):
    """Stable Diffusion XL. An encoded prompt is its embeddings (L D) and the pooled ones of the second encoder (D)."""

    def __init__(self, pipeline: DiffusionPipeline, size: tuple[int, int]) -> None:
        super().__init__(pipeline, size)
        self.zeros_for_empty = pipeline.config.force_zeros_for_empty_prompt
        width, height = size
        # The original size, the top left corner of the crop, and the target size, as in an image that is not cropped.
        self._time_ids = torch.tensor([[height, width, 0, 0, height, width]])

    def encode(self, ids: list[torch.Tensor], text: str) -> Tensors:
        embeds, pooled = _encode_clip(self.encoders(), ids)
        return embeds, pooled[-1]

    def predict(self, denoiser: torch.nn.Module, latents: torch.Tensor, timesteps: torch.Tensor, *prompt: torch.Tensor):
        embeds, pooled = prompt
        self._time_ids = self._time_ids.to(pooled)
        added = {"text_embeds": pooled, "time_ids": self._time_ids.expand(len(latents), -1)}
        return denoiser(latents, timesteps, embeds, added_cond_kwargs=added, return_dict=False)

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.pipeline.vae.config
        if config.latents_mean is None or config.latents_std is None:
            return super().unscale(latents)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (config.latents_mean, config.latents_std))
        return latents * std / config.scaling_factor + mean


class StableDiffusion3Adapter(StableDiffusionAdapter):
    """Stable Diffusion 3 and 3.5. An encoded prompt is its embeddings (L D), those of T5 last, and the pooled ones."""

    denoiser = "transformer"
    memory_format = torch.preserve_format
    has_t5 = True

    def __init__(self, pipeline: DiffusionPipeline, size: tuple[int, int]) -> None:
        super().__init__(pipeline, size)
        config = pipeline.transformer.config
        patch = pipeline.vae_scale_factor * config.patch_size
        if any(side % patch or side > patch * config.pos_embed_max_size for side in size):
            raise UserError(
                f"this model cannot render {size[0]} x {size[1]} pixels; set `render.width` and `render.height` to "
                f"multiples of {patch} up to {patch * config.pos_embed_max_size}."
            )

    def encode(self, ids: list[torch.Tensor], text: str) -> Tensors:
        embeds, pooled = _encode_clip(self.encoders()[:2], ids)
        t5 = self._encode_t5(text).to(embeds)
        return torch.cat([F.pad(embeds, (0, t5.shape[1] - embeds.shape[1])), t5]), torch.cat(pooled)

    def _encode_t5(self, text: str) -> torch.Tensor:
        tokenizer, encoder = self.pipeline.tokenizer_3, self.pipeline.text_encoder_3
        if encoder is None:
            return torch.zeros(T5_LENGTH, self.pipeline.transformer.config.joint_attention_dim)
        options = {"padding": "max_length", "max_length": T5_LENGTH, "truncation": True, "return_tensors": "pt"}
        return encoder(tokenizer(text, **options).input_ids.to(encoder.device))[0][0]

    def predict(self, denoiser: torch.nn.Module, latents: torch.Tensor, timesteps: torch.Tensor, *prompt: torch.Tensor):
        embeds, pooled = prompt
        return denoiser(latents, embeds, pooled, timesteps, return_dict=False)

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        return super().unscale(latents) + (self.pipeline.vae.config.shift_factor or 0)


ADAPTERS = {
    "StableDiffusionPipeline": StableDiffusionAdapter,
    "StableDiffusionXLPipeline": StableDiffusionXLAdapter,
    "StableDiffusion3Pipeline": StableDiffusion3Adapter,
}


def _encode_clip(encoders: list[torch.nn.Module], ids: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the states of the adapted pipeline's CLIPs before the last layer (L D), and what each returns first.

    That is the pooled output (D) of an encoder with a projection.
    """
    outputs = [encoder(i, output_hidden_states=True) for encoder, i in zip(encoders, ids, strict=True)]
    return torch.cat([output.hidden_states[-2][0] for output in outputs], -1), [output[0][0] for output in outputs]
