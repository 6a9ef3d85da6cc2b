"""What the trainer asks of a model family, and which file answers for which family.

Legend: B batch, L tokens of a caption, V vectors of the word, D width, c h w latent, H W picture.
"""

from typing import Protocol

import torch

from stages import UserError
from stages.models.loading import family
from stages.models.params import Concept, Model
from stages.models.schedule import Schedule
from stages.models.stable_diffusion import StableDiffusion

FAMILIES = {"StableDiffusionPipeline": StableDiffusion}


class Backbone(Protocol):
    """A frozen text-to-picture model with room for one new word."""

    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    denoiser: torch.nn.Module
    text_encoder: torch.nn.Module

    def initializer_vectors(self) -> torch.Tensor:
        """=> (V D), float32, on the CPU: the initializer word, V times; of a phrase, the mean of its tokens."""

    def initial_vectors(self, seed: int) -> torch.Tensor:
        """=> (V D), float32, on the CPU: where the word starts."""

    def typical_norm(self) -> float:
        """=> the mean Euclidean norm of the known words' vectors."""

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """captions with the placeholder => ids (B L) in which it has its V places."""

    def blank(self) -> torch.Tensor:
        """=> ids (1 L) of a caption that says nothing."""

    def encode(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """pictures (B 3 H W) in [-1, 1] => mean and deviation of their latents (B c h w), float32, on the CPU."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """latents (B c h w) => pictures (B 3 H W), about [-1, 1], float32, on the CPU."""

    def release_encoder(self, *, for_good: bool) -> None:
        """The picture encoder leaves the device; `encode` is over, and so is `decode` if it leaves for good."""

    def context(self, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """ids (B L), vectors (V D) => what the denoiser listens to (B L D)."""

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """noisy (B c h w), timesteps (B), context (B L D) => prediction (B c h w), float32."""

    def checkpoint_gradients(self) -> None:
        """Activations are recomputed from here on, not kept."""


def open_backbone(model: Model, concept: Concept, device: torch.device | str, dtype: torch.dtype) -> Backbone:
    """`model`, `concept` => the frozen model on `device`, at `dtype`.

    Raises UserError for a folder that is not there, a family that is not known, or a file that is missing or pickled.
    """
    name = family(model)
    if name not in FAMILIES:
        raise UserError(f"{model.base} is a {name}; this pipeline trains {', '.join(FAMILIES)}: change `model.base`.")
    return FAMILIES[name](model, concept, torch.device(device), dtype)
