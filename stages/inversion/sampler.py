"""Counted draws => the samples of a step, whatever the micro-batch, the process, or the step at which a run went on.

Legend: P pictures, B batch, L tokens of a caption, c h w latent.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from stages.models.noise import generator, normal
from stages.models.schedule import Schedule


@dataclass(frozen=True)
class Batch:
    """Samples: latents and noise (B c h w), timesteps (B), ids (B L), weights of their losses (B)."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.timesteps)

    def tensors(self) -> list[torch.Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def part(self, start: int, end: int) -> "Batch":
        """Samples from `start` up to `end`."""
        return Batch(*(tensor[start:end] for tensor in self.tensors()))

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`; from pinned memory, so that the copy waits for nothing."""
        if device.type != "cuda" or self.timesteps.is_cuda:
            return Batch(*(tensor.to(device) for tensor in self.tensors()))
        return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in self.tensors()))


@dataclass(frozen=True)
class Pictures:
    """Latents' mean and deviation (P c h w) with those of the mirrored pictures, or none, and their captions."""

    mean: torch.Tensor
    std: torch.Tensor
    mirrored: tuple[torch.Tensor, torch.Tensor] | None
    choices: list[list[int]]

    def latents(self, picture: int, drawn: torch.Tensor, flip: bool = False) -> torch.Tensor:
        """A picture's number, standard normal values (c h w) => a draw from its posterior (c h w)."""
        mean, std = self.mirrored if flip and self.mirrored else (self.mean, self.std)
        return mean[picture] + std[picture] * drawn


class Sampler:
    """(step, samples) => Batch; a pure function of the seed and the numbers."""

    def __init__(
        self,
        pictures: Pictures,
        ids: torch.Tensor,
        schedule: Schedule,
        *,
        seed: int,
        batch_size: int,
        gamma: float | None,
    ) -> None:
        self._pictures, self._ids, self._schedule = pictures, ids, schedule.to("cpu")
        self._seed, self._size, self._gamma = seed, batch_size, gamma

    def draw(self, step: int, samples: range) -> Batch:
        """The samples numbered `samples` of the global batch of `step`."""
        drawn = [self._sample(step, sample) for sample in samples]
        latents, noise, timesteps, captions = zip(*drawn, strict=True)
        timesteps = torch.tensor(timesteps)
        weights = torch.ones(len(drawn))
        if self._gamma is not None:
            weights = self._schedule.min_snr_weight(timesteps, self._gamma)
        return Batch(torch.stack(latents), torch.stack(noise), timesteps, self._ids[list(captions)], weights)

    def _sample(self, step: int, sample: int) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        seed, here = self._seed, (step, sample)
        picture = self._picture(step * self._size + sample)
        flip = self._pictures.mirrored is not None and generator(seed, "flip", *here).random() < 0.5
        shape = tuple(self._pictures.mean.shape[1:])
        latents = self._pictures.latents(picture, torch.from_numpy(normal(seed, "posterior", *here, shape)), flip)
        noise = torch.from_numpy(normal(seed, "noise", *here, shape))
        timestep = int(generator(seed, "timestep", *here).integers(self._schedule.timesteps))
        choices = self._pictures.choices[picture]
        return latents, noise, timestep, choices[generator(seed, "caption", *here).integers(len(choices))]

    def _picture(self, count: int) -> int:
        """How many samples came before => a picture: every epoch is a permutation of its own."""
        epoch, place = divmod(count, len(self._pictures.mean))
        return int(generator(self._seed, "picture", epoch).permutation(len(self._pictures.mean))[place])


def check_finite(latents: torch.Tensor, names: list[str]) -> str | None:
    """latents (P c h w) => the name of the first picture whose latents are not numbers, or None."""
    bad = np.flatnonzero(~torch.isfinite(latents).flatten(1).all(1).numpy())
    return names[bad[0]] if len(bad) else None
