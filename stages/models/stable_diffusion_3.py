"""Stable Diffusion 3 and 3.5: two CLIP text encoders, T5, a VAE, and a transformer that predicts a flow.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, D width, c h w latent.
"""

from types import SimpleNamespace

import torch
from torch.nn import functional as F

from stages.models.backbone import Backbone
from stages.models.fixed_text_encoder import FixedTextEncoder, TextEncodersBesideFixed
from stages.models.noise_schedule import FlowSchedule
from stages.models.params import Concept, Model
from stages.models.text_encoders import T5_LENGTH, TextEncoders


class StableDiffusion3(Backbone):
    """The backbone of this family; `stages.models.backbone.Backbone` documents the methods.

    T5 has vectors of its own, or reads the initializer token in place of the placeholder, or is missing (`model.t5`).
    """

    def __init__(
        self, parts: SimpleNamespace, model: Model, concept: Concept, device: torch.device, dtype: torch.dtype
    ) -> None:
        encoders = {
            "clip_l": (parts.tokenizer, parts.text_encoder),
            "clip_g": (parts.tokenizer_2, parts.text_encoder_2),
        }
        if model.t5 == "train":
            encoders["t5xxl"] = (parts.tokenizer_3, parts.text_encoder_3)
        if model.t5 == "frozen":
            t5 = FixedTextEncoder(parts.tokenizer_3, parts.text_encoder_3, device)
            text = TextEncodersBesideFixed(encoders, concept, t5)
        else:
            text = TextEncoders(encoders, concept)
        super().__init__(text, parts.transformer, parts.vae, device, dtype)
        self.schedule, self.scheduler = FlowSchedule.of(parts.scheduler), parts.scheduler

    @property
    def architecture(self) -> str:
        config = self.denoiser.config
        if config.qk_norm is None:
            return "stable-diffusion-v3-medium"
        return f"stable-diffusion-v3.5-{'medium' if config.dual_attention_layers else 'large'}"

    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prompt embeddings (B L 4096), CLIP's before T5's, and the pooled prompt of both CLIPs (B 2048)."""
        clip_l, clip_g, *t5 = self.text.split(ids, vectors)
        clips = [encoder(part, rows, output_hidden_states=True) for encoder, part, rows in (clip_l, clip_g)]
        clip = torch.cat([output.hidden_states[-2] for output in clips], dim=-1)
        if t5:
            ((encoder, part, rows),) = t5
            prompt = encoder(part, rows).last_hidden_state
        elif self.text.fixed:
            prompt = self.text.fixed(ids[:, -1])
        else:
            prompt = clip.new_zeros(len(ids), T5_LENGTH, self.denoiser.config.joint_attention_dim)
        clip = F.pad(clip, (0, prompt.shape[-1] - clip.shape[-1]))
        return torch.cat([clip, prompt.to(clip.dtype)], dim=1), torch.cat([output.text_embeds for output in clips], -1)

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: tuple[torch.Tensor, ...],
        sizes: torch.Tensor,
    ) -> torch.Tensor:
        prompt_embeds, pooled = conditioning
        return self._denoise(noisy.to(self.dtype), prompt_embeds, pooled, timesteps)
