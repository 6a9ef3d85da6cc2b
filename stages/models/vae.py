"""Encode images to latents, and decode them, by a VAE that is on the device only while it works.

Legend: B batch, c h w latent, H W image.
"""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from torch import nn

from stages import UserError


class LatentCodec:
    """A frozen VAE whose latents are scaled as the denoiser expects them."""

    def __init__(self, vae: AutoencoderKL, device: torch.device) -> None:
        self._vae, self._device = vae, device
        self._scale, self._shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0

    @torch.no_grad()
    def encode(self, images: torch.Tensor, others: Sequence[nn.Module]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode images (B 3 H W) to the latents' mean and deviation (B c h w), one at a time.

        If that needs more memory, the `others` leave the device meanwhile. Raises UserError if it is still not enough.
        """
        try:
            return self._latents(images)
        except torch.OutOfMemoryError:
            pass
        # Outside the handler, because its traceback keeps the tensors alive.
        for module in others:
            module.cpu()
        torch.cuda.empty_cache()
        try:
            return self._latents(images)
        except torch.OutOfMemoryError:
            raise UserError(
                f"an image of {images.shape[-1]} x {images.shape[-2]} pixels cannot be encoded in this memory; "
                "lower `curate.resolution` or raise `runtime.memory_gib`."
            ) from None
        finally:
            torch.cuda.empty_cache()  # otherwise the weights fragment what the VAE has freed
            for module in others:
                module.to(self._device)

    def _latents(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._vae.to(self._device)
        latents = [self._vae.encode(image[None].to(self._device)).latent_dist for image in images]
        mean, std = (torch.cat([getattr(d, name) for d in latents]) for name in ("mean", "std"))
        return ((mean - self._shift) * self._scale).cpu(), (std * self._scale).cpu()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (B c h w) by the VAE to images (B 3 H W), float32, on the CPU."""
        latents = latents.float() / self._scale + self._shift
        try:
            pixels = self._vae.to(self._device).decode(latents).sample.cpu()
        except torch.OutOfMemoryError:
            pixels = None  # the training step has taken the memory; decode on the CPU, outside the handler
        self.release(for_good=False)
        return self._vae.decode(latents.cpu()).sample if pixels is None else pixels

    def release(self, *, for_good: bool) -> None:
        """Move the VAE off the device; `for_good` deletes it."""
        self._vae = None if for_good else self._vae.cpu()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
