"""The samples of a step: the same whatever the micro-batch, the process, or the step at which a run went on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.inversion.diffusion_loss import Compute, Speed
from stages.inversion.loop import share
from stages.inversion.sampler import Pictures, Sampler, check_finite
from stages.models.noise import normal
from stages.models.schedule import Schedule
from tests.inversion.tiny_training import opened

SHAPE = (4, 8, 8)
SCHEDULE = Schedule(torch.linspace(0.999, 0.005, 1000), "epsilon")
IDS = torch.tensor([[1, 90 + i, 2] for i in range(3)])


def pictures(flip: bool = True) -> Pictures:
    generator = torch.Generator().manual_seed(0)
    mean, std, other = torch.randn(3, 5, *SHAPE, generator=generator)
    return Pictures(mean, std.abs(), (other, std.abs()) if flip else None, [[0, 1, 2]] * 5)


def sampler(**options: object) -> Sampler:
    return Sampler(pictures(), IDS, SCHEDULE, **{"seed": 0, "batch_size": 4, "gamma": None} | options)


def test_a_sample_is_the_same_alone_and_in_any_company():
    whole = sampler().draw(7, range(4))
    for start, end in ((0, 1), (1, 4), (2, 3)):
        for tensor, expected in zip(
            sampler().draw(7, range(start, end)).tensors(), whole.part(start, end).tensors(), strict=True
        ):
            assert torch.equal(tensor, expected)


def test_noise_and_posterior_are_the_counted_draws():
    batch, source = sampler().draw(11, range(4)), pictures()
    for sample in range(4):
        assert np.array_equal(batch.noise[sample], normal(0, "noise", 11, sample, SHAPE))
        drawn = torch.from_numpy(normal(0, "posterior", 11, sample, SHAPE))
        possible = [source.latents(p, drawn, flip) for p in range(5) for flip in (False, True)]
        assert sum(torch.equal(batch.latents[sample], one) for one in possible) == 1


def test_every_epoch_shows_every_picture_once_in_an_order_of_its_own():
    drawer = sampler(batch_size=5)
    orders = [tuple(drawer._picture(epoch * 5 + place) for place in range(5)) for epoch in range(6)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len(set(orders)) > 3


def test_timesteps_captions_and_mirrors_are_evenly_drawn():
    batch = sampler(batch_size=2000).draw(0, range(2000))
    assert abs(batch.timesteps.float().mean() - 499.5) < 25
    assert batch.timesteps.min() < 10
    assert batch.timesteps.max() > 989
    counts = Counter(batch.ids[:, 1].tolist())
    assert all(abs(counts[90 + i] - 667) < 90 for i in range(3))


def test_without_mirrors_no_picture_is_mirrored():
    source = pictures(flip=False)
    batch = Sampler(source, IDS, SCHEDULE, seed=0, batch_size=20, gamma=None).draw(0, range(20))
    for sample in range(20):
        drawn = torch.from_numpy(normal(0, "posterior", 0, sample, SHAPE))
        assert any(torch.equal(batch.latents[sample], source.latents(p, drawn)) for p in range(5))


def test_min_snr_weights_are_the_schedules():
    assert torch.equal(sampler().draw(0, range(4)).weights, torch.ones(4))
    batch = sampler(gamma=5.0).draw(0, range(4))
    assert torch.equal(batch.weights, SCHEDULE.min_snr_weight(batch.timesteps, 5.0))


def test_processes_share_the_batch_without_gap_or_overlap():
    for size in (1, 4, 7):
        for world in range(1, size + 1):
            shares = [share(size, rank, world) for rank in range(world)]
            assert [sample for part in shares for sample in part] == list(range(size))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_four_as_1x4_2x2_4x1_and_two_processes_has_the_same_gradient(folder: Path, gamma: float | None):
    backbone = opened(folder)
    ids = backbone.tokenize(["a <critter>", "the <critter>", "photo of <critter>"])
    drawer = Sampler(pictures(), ids, backbone.schedule, seed=0, batch_size=4, gamma=gamma)
    word = backbone.initial_vectors(0)
    whole = Compute(backbone, Speed(micro_batch=4), 4).gradient(word, 1.0, drawer.draw(3, range(4)))
    assert whole[1:].norm() > 1e-5
    for micro_batch in (1, 2, 3):
        split = Compute(backbone, Speed(micro_batch=micro_batch), 4).gradient(word, 1.0, drawer.draw(3, range(4)))
        torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-7)
    shares = [Compute(backbone, Speed(), 4).gradient(word, 1.0, drawer.draw(3, share(4, rank, 2))) for rank in (0, 1)]
    torch.testing.assert_close(shares[0] + shares[1], whole, rtol=1e-4, atol=1e-7)


def test_latents_that_are_not_numbers_are_found():
    latents = torch.zeros(3, *SHAPE)
    assert check_finite(latents, ["a", "b", "c"]) is None
    latents[1, 2, 3, 4] = float("nan")
    assert check_finite(latents, ["a", "b", "c"]) == "b"
