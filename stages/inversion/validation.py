"""The fixed objective: the same pictures, noise, timesteps and captions every time, so that a change is the word's.

The training loss of a diffusion model is dominated by which timestep and noise were drawn; with those fixed it falls
smoothly while a word is learnt (Voronov et al. 2023, "Is This Loss Informative?", sec. 4). Their batch has four
timesteps; here the timesteps are stratified over the schedule, one stratum a cell.

Legend: E evaluations, K cells (picture x stratum), B batch, c h w latent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stages.inversion.sampler import Batch, Pictures
from stages.models.noise import generator, normal
from stages.models.schedule import Schedule


@dataclass(frozen=True)
class Value:
    """The objective relative to the initializer word (1.0 is no better than it), and its paired standard error."""

    relative: float
    stderr: float


def fixed_batch(
    pictures: Pictures,
    ids: torch.Tensor,
    schedule: Schedule,
    *,
    seed: int,
    strata: int,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Batch:
    """Held-out pictures (P c h w), ids of the sentences => K = P x strata cells, the same for the same seed.

    Cell j sees the middle of the j-th of K equal parts of `interval` (fractions of the schedule), and consecutive parts
    go to different pictures: every picture sees every region of the schedule.
    """
    count = len(pictures.mean)
    shape = tuple(pictures.mean.shape[1:])
    start, end = (fraction * schedule.timesteps for fraction in interval)
    latents, noise, timesteps, captions = [], [], [], []
    for cell in range(count * strata):
        picture = cell % count
        drawn = torch.from_numpy(normal(seed, "validation", 0, cell, (2, *shape)))
        latents.append(pictures.latents(picture, drawn[0]))
        noise.append(drawn[1])
        timesteps.append(int(start + (cell + 0.5) / (count * strata) * (end - start)))
        choices = pictures.choices[picture]
        captions.append(choices[generator(seed, "validation", 1, cell).integers(len(choices))])
    weights = torch.ones(len(timesteps))
    return Batch(torch.stack(latents), torch.stack(noise), torch.tensor(timesteps), ids[captions], weights)


def evaluate(batch: Batch, losses: Callable[[Batch], torch.Tensor], chunk: int, rank: int, world: int) -> torch.Tensor:
    """Cells, a function that gives the losses of some => losses (K) with zeros where another process has the cell."""
    share = math.ceil(len(batch) / world)
    start, end = min(rank * share, len(batch)), min((rank + 1) * share, len(batch))
    result = torch.zeros(len(batch))
    for i in range(start, end, chunk):
        stop = min(i + chunk, end)
        result[i:stop] = losses(batch.part(i, stop)).float().cpu()
    return result


def relative(losses: np.ndarray, reference: np.ndarray) -> Value:
    """Losses (K) with a word and with the initializer word => the ratio of their means, and its standard error.

    The error is that of a ratio of paired means (delta method): the spread of `loss - ratio x reference` over the
    cells, in which the difficulty of a cell, common to both, cancels.
    """
    losses, reference = losses.astype(np.float64), reference.astype(np.float64)
    ratio = losses.mean() / reference.mean()
    spread = (losses - ratio * reference).std(ddof=1) if len(losses) > 1 else 0.0
    return Value(float(ratio), float(spread / math.sqrt(len(losses)) / reference.mean()))


def curve(cells: list[np.ndarray], reference: np.ndarray | None) -> list[Value]:
    """Losses of every evaluation (E K) and with the initializer word (K) => the objective at every evaluation."""
    return [relative(row, reference) for row in cells]
