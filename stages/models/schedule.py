"""The forward process of a diffusion model, and the target that its denoiser is trained to predict.

Legend: B batch, c channels, h w latent, T training timesteps.
"""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class NoiseSchedule:
    """Cumulative products of alphas (T), and the prediction type; all tensors of a batch are float32."""

    alphas_cumprod: torch.Tensor
    prediction_type: str

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> "NoiseSchedule":
        """Return the schedule on `device`."""
        return replace(self, alphas_cumprod=self.alphas_cumprod.to(device))

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return noisy latents (B c h w) at `timesteps` (B) (Ho et al. 2020, eq. 4)."""
        signal, sigma = self._scales(timesteps)
        return signal * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the target of the prediction: noise, velocity (Salimans & Ho 2022), or the latents."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return latents
        signal, sigma = self._scales(timesteps)
        return signal * noise - sigma * latents

    def min_snr_weight(self, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
        """Return the loss weights (B) of min-SNR-gamma (Hang et al. 2023, sec. 3.4).

        A signal-to-noise ratio of zero (the last timestep of a rescaled schedule, Lin et al. 2024) has a finite weight.
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
