"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a VAE and a UNet, with epsilon or velocity prediction.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, D width, c h w latent.
"""

from types import SimpleNamespace

import torch

from stages.models.backbone import Backbone
from stages.models.noise_schedule import NoiseSchedule, ddim
from stages.models.params import Concept, Model
from stages.models.text_encoders import TextEncoders


class StableDiffusion(Backbone):
    """The backbone of this family; `stages.models.backbone.Backbone` documents the methods."""

    def __init__(
        self, parts: SimpleNamespace, model: Model, concept: Concept, device: torch.device, dtype: torch.dtype
    ) -> None:
        unet = parts.unet.to(memory_format=torch.channels_last)
        text = TextEncoders({"clip": (parts.tokenizer, parts.text_encoder)}, concept)
        super().__init__(text, unet, parts.vae, device, dtype)
        self.schedule, self.scheduler = NoiseSchedule.of(parts.scheduler).to(device), ddim(parts.scheduler)

    @property
    def architecture(self) -> str:
        if self.text.tables.widths["clip"] < 1024:
            return "stable-diffusion-v1"
        return f"stable-diffusion-v2-{'768-v' if self.schedule.prediction_type == 'v_prediction' else '512'}"

    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor]:
        (encoder,) = self.text.encoders
        return (encoder(ids, vectors).last_hidden_state,)

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: tuple[torch.Tensor, ...],
        sizes: torch.Tensor,
    ) -> torch.Tensor:
        return self._denoise(noisy.to(self.dtype, memory_format=torch.channels_last), timesteps, *conditioning)
