"""The validation loss: the same images, noise, timesteps and captions every time, so that only the embedding differs.

The training loss of a diffusion model is dominated by the drawn timestep and noise; with both fixed it falls smoothly
during training (Voronov et al. 2023, "Is This Loss Informative?", sec. 4). Their batch has four timesteps; here the
timesteps are stratified over the schedule, one stratum per sample.

Legend: K samples (image x stratum), V vectors of the embedding, D width, c h w latent.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from stages.common.distributed import all_reduce, share
from stages.inversion.dataset import LatentCache
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.sampler import Batch
from stages.models.noise_schedule import Schedule
from stages.models.philox import generator, normal

GRADIENT_SCALE = 2.0**8  # keeps a gradient from underflow in half precision


@dataclass(frozen=True)
class RelativeLoss:
    """A loss divided by the initializer token's (1.0 is no better), and its paired standard error."""

    value: float
    stderr: float


class FixedLoss:
    """The loss of an embedding on a fixed batch, which the processes share."""

    def __init__(self, loss: DiffusionLoss, batch: Batch, accelerator: Accelerator) -> None:
        samples = share(len(batch), accelerator)
        self._before, self._count, self._after = samples.start, len(samples), len(batch) - samples.stop
        self._loss, self._accelerator = loss, accelerator
        chosen = list(samples)
        if loss.sharded:  # all processes must call the model equally often; samples without a weight fill up the shares
            chosen += [0] * (-(-len(batch) // accelerator.num_processes) - len(chosen))
        self._batch = batch[chosen].to(loss.device)
        self._batch.weights[len(samples) :] = 0

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the loss of every sample (K) with the embedding `vectors` (V D), on the CPU."""
        losses = self._loss.losses(vectors, self._batch)[: self._count]
        padded = torch.nn.functional.pad(losses, (self._before, self._after)).to(self._loss.device)
        return all_reduce(self._accelerator, padded).cpu()

    def gradient(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the gradient of this fixed loss at `vectors` (V D) times a constant, on the CPU."""
        total = all_reduce(self._accelerator, self._loss.gradient(vectors, GRADIENT_SCALE, self._batch))
        return total[1:].view_as(vectors).cpu()


def fixed_batch(
    cache: LatentCache, ids: torch.Tensor, stream: str, *, schedule: Schedule, seed: int, strata: int
) -> Batch:
    """Draw the fixed batch of a validation: K = images x strata samples, the same for the same seed and stream.

    Sample k has the timestep in the middle of the k-th of K equally likely parts of the schedule, and consecutive
    samples have different images: every image is seen in every region of the schedule.
    """
    images, shape = len(cache.mean), tuple(cache.mean.shape[1:])
    count = images * strata
    latents, noise, captions = [], [], []
    for k in range(count):
        drawn = torch.from_numpy(normal(seed, stream, 0, k, (2, *shape)))
        latents.append(cache.sample(k % images, drawn[0]))
        noise.append(drawn[1])
        choices = cache.captions[k % images]
        captions.append(choices[generator(seed, stream, 1, k).integers(len(choices))])
    middles = torch.tensor([schedule.quantile((k + 0.5) / count) for k in range(count)])
    sizes = cache.sizes[[k % images for k in range(count)]]
    return Batch(torch.stack(latents), torch.stack(noise), middles, ids[captions], sizes, torch.ones(count))


def relative_loss(losses: torch.Tensor, reference: torch.Tensor) -> RelativeLoss:
    """Return the ratio of the mean losses (K) with an embedding and with the initializer token.

    The standard error is that of a ratio of paired means (delta method): the spread of `loss - ratio x reference`, in
    which the difficulty that a sample has for both cancels.
    """
    losses, reference = (np.asarray(x, dtype=np.float64) for x in (losses, reference))
    ratio = losses.mean() / reference.mean()
    spread = (losses - ratio * reference).std(ddof=1) if len(losses) > 1 else 0.0
    return RelativeLoss(float(ratio), float(spread / math.sqrt(len(losses)) / reference.mean()))
