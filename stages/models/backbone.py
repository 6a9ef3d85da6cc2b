"""The protocol that the trainer needs from a model family, and the families that implement it.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, N tokens of the vocabulary, D width, c h w latent,
H W image.
"""

from typing import Protocol

import torch

from stages import UserError
from stages.models.embedding import Tables
from stages.models.model_files import family
from stages.models.params import Concept, Model
from stages.models.schedule import NoiseSchedule
from stages.models.stable_diffusion import StableDiffusion

FAMILIES = {"StableDiffusionPipeline": StableDiffusion}


class Backbone(Protocol):
    """A frozen text-to-image model whose tokenizer and text encoder accept one new token."""

    schedule: NoiseSchedule
    scheduler_config: dict
    device: torch.device
    dtype: torch.dtype
    denoiser: torch.nn.Module
    text_encoder: torch.nn.Module
    tables: Tables
    architecture: str

    def initializer_vectors(self) -> torch.Tensor:
        """Return the embedding of the initializer token, V times (V D), float32, on the CPU."""

    def token_embeddings(self) -> torch.Tensor:
        """Return the table of token embeddings (N D), float32, on the CPU."""

    def words(self) -> list[str]:
        """Return the word that each row of the table stands for (N); empty for special tokens and parts of words."""

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """Return ids (B L) of captions that contain the placeholder token. Raises UserError if it is cut off."""

    def empty_prompt(self) -> torch.Tensor:
        """Return the ids of an empty prompt (1 L)."""

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode images (B 3 H W) in [-1, 1] to the latents' mean and deviation (B c h w), float32, on the CPU."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (B c h w) to images (B 3 H W), about [-1, 1], float32, on the CPU."""

    def release_vae(self, *, for_good: bool) -> None:
        """Move the VAE off the device; `for_good` deletes it, and `encode` and `decode` must not be called again."""

    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Encode ids (B L) to prompt embeddings (B L D), with `vectors` (V D) as the new token's embedding."""

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Return the denoiser's prediction (B c h w), float32, for noisy latents (B c h w) and timesteps (B)."""

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the denoiser's activations in the backward pass from now on."""


def open_backbone(model: Model, concept: Concept, device: torch.device | str, dtype: torch.dtype) -> Backbone:
    """Load the frozen model onto `device` at `dtype`.

    Raises UserError for a missing folder or file, an unknown family, or weights that are not safetensors.
    """
    name = family(model)
    if name not in FAMILIES:
        raise UserError(f"{model.base} is a {name}; this pipeline trains {', '.join(FAMILIES)}: change `model.base`.")
    return FAMILIES[name](model, concept, torch.device(device), dtype)
