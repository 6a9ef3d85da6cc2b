"""The forward process of a diffusion or flow model, and the target that its denoiser is trained to predict.

Legend: B batch, c channels, h w latent, T training timesteps.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from stages import UserError


@dataclass(frozen=True)
class NoiseSchedule:
    """Cumulative products of alphas (T), and the prediction type; all tensors of a batch are float32."""

    alphas_cumprod: torch.Tensor
    prediction_type: str

    @classmethod
    def of(cls, scheduler: DDPMScheduler) -> "NoiseSchedule":
        """Return the schedule of a base model's scheduler."""
        return cls(scheduler.alphas_cumprod.float(), scheduler.config.prediction_type)

    def draw(self, generator: np.random.Generator) -> int:
        """Draw a training timestep; all are equally likely."""
        return int(generator.integers(len(self.alphas_cumprod)))

    def quantile(self, q: float) -> int:
        """Return the timestep of the schedule that a share `q` of the draws does not exceed."""
        return int(q * len(self.alphas_cumprod))

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
        """Return loss weights (B) by the schedule's signal-to-noise ratio: min-SNR-gamma (Hang et al. 2023, sec. 3.4).

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


@dataclass(frozen=True)
class FlowSchedule:
    """A rectified flow (Liu et al. 2023), whose denoiser predicts the velocity from the latents to the noise.

    The noise's share sigma of a sample at timestep t is t / T. Timesteps are drawn logit-normally, and shifted towards
    the noise as sampling is (Esser et al. 2024, sec. 3.1 and 5.3.2).
    """

    shift: float
    timesteps: int

    @classmethod
    def of(cls, scheduler: FlowMatchEulerDiscreteScheduler) -> "FlowSchedule":
        """Return the schedule of a base model's scheduler."""
        return cls(scheduler.config.shift, scheduler.config.num_train_timesteps)

    def to(self, device: torch.device | str) -> "FlowSchedule":
        """Return the schedule, which has no tensors."""
        return self

    def draw(self, generator: np.random.Generator) -> float:
        """Draw a training timestep."""
        return self._timestep(generator.standard_normal())

    def quantile(self, q: float) -> float:
        """Return the timestep of the schedule that a share `q` of the draws does not exceed."""
        return self._timestep(NormalDist().inv_cdf(q))

    def _timestep(self, normal: float) -> float:
        sigma = 1 / (1 + math.exp(-normal))
        return self.timesteps * self.shift * sigma / (1 + (self.shift - 1) * sigma)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return noisy latents (B c h w) at `timesteps` (B): a point of the straight line to the noise."""
        sigma = (timesteps / self.timesteps).view(-1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the target of the prediction: the velocity, which is the same at all timesteps of a flow schedule."""
        return noise - latents

    def min_snr_weight(self, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
        """Refuse: these weights are derived for diffusion models."""
        raise UserError("`train.min_snr_gamma` is for diffusion models, and this base model is a flow: set it to null.")


Schedule = NoiseSchedule | FlowSchedule


def ddim(scheduler: DDPMScheduler) -> DDIMScheduler:
    """Return a base model's noise schedule as DDIM (Song et al. 2021), which adds no noise between its steps."""
    return DDIMScheduler.from_config(
        scheduler.config, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
