"""The frozen text-to-image model that a trainer sees; one subclass for each family of models.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, D width, c h w latent, H W image.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from stages.models.noise_schedule import Schedule
from stages.models.sharding import is_sharded
from stages.models.text_encoders import TextEncoders
from stages.models.vae import LatentCodec
from stages.models.weight_storage import move

Conditioning = tuple[torch.Tensor, ...]  # what the denoiser sees of a prompt; its first dimension is B


class Backbone(ABC):
    """A frozen text-to-image model whose tokenizers and text encoders accept one new token.

    `text` has the text encoders that are trained, with their tokenizers. A family sets its noise `schedule`, and
    `scheduler`, which samples without noise between the steps.
    """

    schedule: Schedule
    scheduler: SchedulerMixin

    def __init__(
        self, text: TextEncoders, denoiser: ModelMixin, vae: AutoencoderKL, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.text, self.denoiser, self.device, self.dtype = text, denoiser, device, dtype
        self._codec = LatentCodec(vae, device)

    @property
    def text_encoders(self) -> list[torch.nn.Module]:
        """Return the text encoders that are trained, without their tokenizers."""
        return [encoder.model for encoder in self.text.encoders]

    @property
    @abstractmethod
    def architecture(self) -> str:
        """Return the backbone's name in the metadata of an embedding file."""

    @abstractmethod
    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> Conditioning:
        """Encode the ids of prompts (B L), with `vectors` (V D) as the new token's embedding, for the denoiser."""

    @abstractmethod
    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, sizes: torch.Tensor
    ) -> torch.Tensor:
        """Return the denoiser's prediction (B c h w), float32, for noisy latents (B c h w) and timesteps (B).

        `sizes` (B 6) are the original height and width, the top and left of the crop, and the height and width of the
        image that the latents encode, in pixels. Stable Diffusion XL is conditioned on them.
        """

    def to_device(self, prepare: Callable[[torch.nn.Module], None], offload: bool | str) -> None:
        """Call `prepare` with the denoiser and every text encoder on the CPU, and move each to the device.

        `offload` is that of `runtime`.
        """
        for module in (self.denoiser, *self.text_encoders):
            prepare(module)
            if not is_sharded(module):
                move(module, self.device, offload)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode images (B 3 H W) in [-1, 1] to the backbone's latents: mean and deviation (B c h w), float32.

        If the VAE does not fit into memory beside them, the denoiser and the text encoders leave the device meanwhile.
        """
        return self._codec.encode(images, [m for m in (self.denoiser, *self.text_encoders) if not is_sharded(m)])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode the backbone's latents (B c h w) to images (B 3 H W), about [-1, 1], float32, on the CPU."""
        return self._codec.decode(latents)

    def release_vae(self, *, for_good: bool) -> None:
        """Move the model's VAE off the device; `for_good` deletes it, after which nothing can be encoded or decoded."""
        self._codec.release(for_good=for_good)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of the denoiser and the text encoders in the backward pass from now on."""
        # No layer draws random numbers, and the state of a random generator cannot be read during a capture.
        recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        self.denoiser.enable_gradient_checkpointing(recompute)
        self.denoiser.train()
        for encoder in self.text_encoders:
            for layer in encoder.modules():
                if isinstance(layer, GradientCheckpointingLayer):  # whose own switch would turn on dropout, too
                    layer.forward = partial(recompute, layer.forward)

    def _denoise(self, *inputs: torch.Tensor, **options: object) -> torch.Tensor:
        """Call the backbone's denoiser, and return its prediction (B c h w), float32."""
        # Without gradients, a compiled module would be compiled again: `forward` is the plain function. The hooks of a
        # sharded module gather its weights, so it must be called.
        plain = not torch.is_grad_enabled() and not is_sharded(self.denoiser)
        denoiser = self.denoiser.forward if plain else self.denoiser
        return denoiser(*inputs, return_dict=False, **options)[0].float()
