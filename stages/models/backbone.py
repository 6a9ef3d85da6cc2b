"""The protocol that the trainer needs from a model family, and the families that implement it.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, N tokens of the vocabulary, D width, c h w latent,
H W image.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from diffusers import SchedulerMixin
from diffusers.utils.logging import disable_progress_bar
from transformers.utils import logging

from stages.models.components import known_family
from stages.models.embedding import Tables
from stages.models.params import Concept, Model
from stages.models.schedule import Schedule
from stages.models.stable_diffusion import StableDiffusion
from stages.models.stable_diffusion_3 import StableDiffusion3
from stages.models.stable_diffusion_xl import StableDiffusionXL

FAMILIES = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
}
Conditioning = tuple[torch.Tensor, ...]  # what the denoiser sees of a prompt; its first dimension is B


class Backbone(Protocol):
    """A frozen text-to-image model whose tokenizers and text encoders accept one new token.

    `scheduler` samples without noise between the steps. `tables` names the tables of token embeddings, and
    `architecture` the model in the metadata of an embedding file.
    """

    schedule: Schedule
    scheduler: SchedulerMixin
    device: torch.device
    dtype: torch.dtype
    denoiser: torch.nn.Module
    text_encoders: list[torch.nn.Module]
    tables: Tables
    architecture: str

    def to_device(self, prepare: Callable[[torch.nn.Module], None], offload: bool | str) -> None:
        """Call `prepare` with the denoiser and every text encoder on the CPU, and move each to the device.

        `offload` is that of `runtime`.
        """

    def initializer_vectors(self) -> torch.Tensor:
        """Return the embedding of the initializer token, V times (V D), float32, on the CPU."""

    def token_embeddings(self) -> torch.Tensor:
        """Return the embeddings of CLIP's tokens in all tables (N D), float32, on the CPU.

        In a table of another vocabulary, that of T5, it is the mean of the tokens of the CLIP token's text.
        """

    def words(self) -> list[str]:
        """Return the word that each row of the table stands for (N); empty for special tokens and parts of words."""

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """Return ids (B L) of captions that contain the placeholder token, for all encoders side by side.

        Raises UserError if the token is cut off.
        """

    def empty_prompt(self) -> torch.Tensor:
        """Return the ids of an empty prompt (1 L)."""

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode images (B 3 H W) in [-1, 1] to the latents' mean and deviation (B c h w), float32, on the CPU."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (B c h w) to images (B 3 H W), about [-1, 1], float32, on the CPU."""

    def release_vae(self, *, for_good: bool) -> None:
        """Move the VAE off the device; `for_good` deletes it, and `encode` and `decode` must not be called again."""

    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> Conditioning:
        """Encode ids (B L), with `vectors` (V D) as the new token's embedding."""

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, sizes: torch.Tensor
    ) -> torch.Tensor:
        """Return the denoiser's prediction (B c h w), float32, for noisy latents (B c h w) and timesteps (B).

        `sizes` (B 6) are the original height and width, the top and left of the crop, and the height and width of the
        image that the latents encode, in pixels. Stable Diffusion XL is conditioned on them.
        """

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of the denoiser and the text encoders in the backward pass from now on."""


def open_backbone(
    model: Model,
    concept: Concept,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    prepare: Callable[[torch.nn.Module], None] = lambda module: None,
    offload: bool | str = "auto",
) -> Backbone:
    """Load the frozen model onto `device` at `dtype`, each part after `prepare` was called with it; see `to_device`.

    Raises UserError for a missing folder or file, an unknown family, or weights that are not safetensors.
    """
    kind = FAMILIES[known_family(model)]
    logging.disable_progress_bar()
    disable_progress_bar()
    backbone = kind(model, concept, torch.device(device), dtype)
    backbone.to_device(prepare, offload)
    return backbone
