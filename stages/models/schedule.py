"""The forward process of a diffusion model and what its network is trained to predict.

Legend: B batch, c channels, h w latent, T training timesteps.
"""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Schedule:
    """Cumulative signal powers (T) and the kind of prediction; the tensors of a batch are float32."""

    alphas_cumprod: torch.Tensor
    prediction_type: str

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> "Schedule":
        """The same on another device."""
        return replace(self, alphas_cumprod=self.alphas_cumprod.to(device))

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """latents (B c h w), noise, timesteps (B) => noisy latents (Ho et al. 2020, eq. 4)."""
        signal, sigma = self._scales(timesteps)
        return signal * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """latents (B c h w), noise, timesteps (B) => what the network ought to say.

        Noise, the velocity of Salimans & Ho (2022), or the latents themselves.
        """
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return latents
        signal, sigma = self._scales(timesteps)
        return signal * noise - sigma * latents

    def min_snr_weight(self, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
        """timesteps (B) => weights of the losses (B): min-SNR-gamma (Hang et al. 2023, sec. 3.4).

        Written as fractions of powers, so that a signal-to-noise ratio of zero (Lin et al. 2024: the last timestep of
        a rescaled schedule) is a number like any other.
        """
        power = self.alphas_cumprod[timesteps]
        snr = power / (1 - power)
        if self.prediction_type == "epsilon":
            return torch.where(snr > gamma, gamma / snr.clamp(min=gamma), torch.ones_like(snr))
        clamped = snr.clamp(max=gamma)
        return clamped if self.prediction_type == "sample" else clamped / (snr + 1)

    def _scales(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        power = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return power.sqrt(), (1 - power).sqrt()
