"""Draw the samples of a step: a pure function of the seed, the step and the sample's number.

Legend: I images, B batch, L tokens of a caption, c h w latent.
"""

from dataclasses import dataclass, fields

import torch

from stages.inversion.dataset import LatentCache
from stages.inversion.params import Train
from stages.models.noise_schedule import Schedule
from stages.models.philox import generator, normal


@dataclass(frozen=True)
class Batch:
    """Latents and noise (B c h w), timesteps (B), caption ids (B L), sizes of the images (B 6), loss weights (B)."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    ids: torch.Tensor
    sizes: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.timesteps)

    def __getitem__(self, samples: slice | list[int]) -> "Batch":
        return Batch(*(tensor[samples] for tensor in self.tensors()))

    def tensors(self) -> list[torch.Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def to(self, device: torch.device) -> "Batch":
        """Copy the sampled batch to `device`; to a GPU from pinned memory, so that the host does not wait."""
        if device.type != "cuda":
            return Batch(*(tensor.to(device) for tensor in self.tensors()))
        return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in self.tensors()))


class Sampler:
    """Cached latents with noise, timesteps and captions; every epoch is a new permutation of the images."""

    def __init__(self, cache: LatentCache, ids: torch.Tensor, schedule: Schedule, recipe: Train) -> None:
        self._cache, self._ids, self._schedule, self._recipe = cache, ids, schedule.to("cpu"), recipe

    def draw(self, step: int, samples: range) -> Batch:
        """Draw the samples with these numbers of the global batch of `step`."""
        drawn = [self._sample(step, sample) for sample in samples]
        latents, noise, timesteps, captions, sizes = zip(*drawn, strict=True)
        timesteps = torch.tensor(timesteps)
        weights = torch.ones(len(drawn))
        if self._recipe.min_snr_gamma is not None:
            weights = self._schedule.min_snr_weight(timesteps, self._recipe.min_snr_gamma)
        ids = self._ids[list(captions)]
        return Batch(torch.stack(latents), torch.stack(noise), timesteps, ids, torch.stack(sizes), weights)

    def _sample(self, step: int, sample: int) -> tuple[torch.Tensor, torch.Tensor, float, int, torch.Tensor]:
        seed, counter = self._recipe.seed, (step, sample)
        image = self._image(step * self._recipe.batch_size + sample)
        flip = self._cache.mirrored is not None and generator(seed, "flip", *counter).random() < 0.5
        shape = tuple(self._cache.mean.shape[1:])
        latents = self._cache.sample(image, torch.from_numpy(normal(seed, "posterior", *counter, shape)), flip)
        noise = torch.from_numpy(normal(seed, "noise", *counter, shape))
        timestep = self._schedule.draw(generator(seed, "timestep", *counter))
        captions = self._cache.captions[image]
        caption = captions[generator(seed, "caption", *counter).integers(len(captions))]
        return latents, noise, timestep, caption, self._cache.sizes[image]

    def _image(self, count: int) -> int:
        """Return the image of the sample that `count` samples precede."""
        epoch, position = divmod(count, len(self._cache.mean))
        return int(generator(self._recipe.seed, "image", epoch).permutation(len(self._cache.mean))[position])
