"""The samples of a step are the same for any micro-batch, process, and resume point."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.common.distributed import share
from stages.inversion.dataset import LatentCache
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.params import Train
from stages.inversion.sampler import Sampler
from stages.models.noise_schedule import NoiseSchedule
from stages.models.philox import normal
from tests.inversion.tiny_training import open_tiny

SHAPE = (4, 8, 8)
SCHEDULE = NoiseSchedule(torch.linspace(0.999, 0.005, 1000), "epsilon")
IDS = torch.tensor([[1, 90 + i, 2] for i in range(3)])


def latent_cache(flip: bool = True) -> LatentCache:
    generator = torch.Generator().manual_seed(0)
    mean, std, mirrored = torch.randn(3, 5, *SHAPE, generator=generator)
    sizes = torch.arange(30.0).view(5, 6)
    return LatentCache(mean, std.abs(), (mirrored, std.abs()) if flip else None, [[0, 1, 2]] * 5, sizes)


def make_sampler(flip: bool = True, **options: object) -> Sampler:
    return Sampler(latent_cache(flip), IDS, SCHEDULE, Train(**options))


def process(rank: int, processes: int) -> SimpleNamespace:
    """Stand for an accelerator."""
    return SimpleNamespace(process_index=rank, num_processes=processes)


def test_sample_does_not_depend_on_the_rest_of_the_batch():
    full = make_sampler().draw(7, range(4))
    for start, end in ((0, 1), (1, 4), (2, 3)):
        part = make_sampler().draw(7, range(start, end))
        assert all(torch.equal(a, b) for a, b in zip(part.tensors(), full[start:end].tensors(), strict=True))


@pytest.mark.parametrize("flip", [True, False])
def test_noise_and_posterior_are_the_counted_draws(flip: bool):
    batch, cache = make_sampler(flip).draw(11, range(4)), latent_cache(flip)
    for sample in range(4):
        assert np.array_equal(batch.noise[sample], normal(0, "noise", 11, sample, SHAPE))
        drawn = torch.from_numpy(normal(0, "posterior", 11, sample, SHAPE))
        possible = [cache.sample(image, drawn, mirror) for image in range(5) for mirror in {False, flip}]
        assert sum(torch.equal(batch.latents[sample], latents) for latents in possible) == 1


def test_every_epoch_is_a_new_permutation():
    sampler = make_sampler(batch_size=5)
    orders = [tuple(sampler._image(epoch * 5 + i) for i in range(5)) for epoch in range(6)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len(set(orders)) > 3


def test_timesteps_and_captions_are_uniform():
    batch = make_sampler(batch_size=2000).draw(0, range(2000))
    assert abs(batch.timesteps.float().mean() - 499.5) < 25
    assert batch.timesteps.min() < 10
    assert batch.timesteps.max() > 989
    counts = Counter(batch.ids[:, 1].tolist())
    assert all(abs(counts[90 + i] - 667) < 90 for i in range(3))


def test_weights_are_those_of_min_snr():
    assert torch.equal(make_sampler().draw(0, range(4)).weights, torch.ones(4))
    batch = make_sampler(min_snr_gamma=5.0).draw(0, range(4))
    assert torch.equal(batch.weights, SCHEDULE.min_snr_weight(batch.timesteps, 5.0))


def test_processes_share_the_batch_without_gap_or_overlap():
    for size in (1, 4, 7):
        for processes in range(1, size + 1):
            shares = [share(size, process(rank, processes)) for rank in range(processes)]
            assert [sample for part in shares for sample in part] == list(range(size))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_batch_split_does_not_change_the_gradient(folder: Path, gamma: float | None):
    """Batch 4 as 1x4, 2x2, 3+1 and on two processes."""
    backbone = open_tiny(folder)
    ids = backbone.text.tokenize(["a <critter>", "the <critter>", "photo of <critter>"])
    sampler = Sampler(latent_cache(), ids, backbone.schedule, Train(min_snr_gamma=gamma))
    loss, vectors = DiffusionLoss(backbone, 4, "auto", graph=False), backbone.text.initializer_vectors()
    full = loss.gradient(vectors, 1.0, sampler.draw(3, range(4)))
    assert full[1:].norm() > 1e-5
    for micro_batch in (1, 2, 3):
        loss.micro_batch = micro_batch
        split = loss.gradient(vectors, 1.0, sampler.draw(3, range(4)))
        torch.testing.assert_close(split, full, rtol=1e-4, atol=1e-7)
    parts = [loss.gradient(vectors, 1.0, sampler.draw(3, share(4, process(rank, 2)))) for rank in (0, 1)]
    torch.testing.assert_close(sum(parts), full, rtol=1e-4, atol=1e-7)
