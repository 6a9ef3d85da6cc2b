"""Stable Diffusion XL: two CLIP text encoders, a VAE, and a UNet that also sees a pooled prompt and the image's sizes.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, D width, c h w latent.
"""

from types import SimpleNamespace

import torch

from stages.models.backbone import Backbone
from stages.models.noise_schedule import NoiseSchedule, ddim
from stages.models.params import Concept, Model
from stages.models.text_encoders import TextEncoders


class StableDiffusionXL(Backbone):
    """The backbone of this family; `stages.models.backbone.Backbone` documents the methods."""

    architecture = "stable-diffusion-xl-v1-base"

    def __init__(
        self, parts: SimpleNamespace, model: Model, concept: Concept, device: torch.device, dtype: torch.dtype
    ) -> None:
        unet = parts.unet.to(memory_format=torch.channels_last)
        encoders = {
            "clip_l": (parts.tokenizer, parts.text_encoder),
            "clip_g": (parts.tokenizer_2, parts.text_encoder_2),
        }
        super().__init__(TextEncoders(encoders, concept), unet, parts.vae, device, dtype)
        self.schedule, self.scheduler = NoiseSchedule.of(parts.scheduler).to(device), ddim(parts.scheduler)

    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prompt embeddings (B L 2048) and the pooled prompt (B 1280)."""
        clip_l, clip_g = (
            encoder(part, rows, output_hidden_states=True) for encoder, part, rows in self.text.split(ids, vectors)
        )
        return torch.cat([clip_l.hidden_states[-2], clip_g.hidden_states[-2]], dim=-1), clip_g.text_embeds

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: tuple[torch.Tensor, ...],
        sizes: torch.Tensor,
    ) -> torch.Tensor:
        noisy, (prompt_embeds, pooled) = noisy.to(self.dtype, memory_format=torch.channels_last), conditioning
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self._denoise(noisy, timesteps, prompt_embeds, added_cond_kwargs=added)
