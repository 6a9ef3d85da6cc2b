"""The validation batch is always the same, and the standard error is that of a ratio of paired means."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.sampler import Batch
from stages.inversion.validation import FixedLoss, RelativeLoss, fixed_batch, relative_loss
from tests.inversion.test_sampler import IDS, SCHEDULE, latent_cache
from tests.inversion.tiny_training import open_tiny


def make_batch(stream: str = "validation", seed: int = 0) -> Batch:
    return fixed_batch(latent_cache(), IDS, stream, schedule=SCHEDULE, seed=seed, strata=4)


def test_batch_is_the_same_for_the_same_seed_and_stream():
    assert all(torch.equal(a, b) for a, b in zip(make_batch().tensors(), make_batch().tensors(), strict=True))
    for other in (make_batch(seed=1), make_batch("test")):
        assert not torch.equal(make_batch().noise, other.noise)
        assert torch.equal(make_batch().timesteps, other.timesteps)


def test_timesteps_are_stratified_for_every_image():
    batch = make_batch()
    assert batch.timesteps.tolist() == [25 + 50 * i for i in range(20)]
    assert all((batch.timesteps[image::5] // 250).tolist() == [0, 1, 2, 3] for image in range(5))


@pytest.mark.parametrize("processes", [2, 3, 30])
def test_processes_and_micro_batches_give_the_same_losses(folder: Path, processes: int):
    backbone = open_tiny(folder)
    ids = backbone.text.tokenize(["a <critter>", "the <critter>", "photo of <critter>"])
    batch = fixed_batch(latent_cache(), ids, "validation", schedule=SCHEDULE, seed=0, strata=4)
    loss, vectors = DiffusionLoss(backbone, 4, 10, graph=False), backbone.text.initializer_vectors()
    full = FixedLoss(loss, batch, Accelerator(cpu=True))(vectors)

    class Rank:
        """One of several processes, whose sum is taken below."""

        num_processes = processes

        def __init__(self, rank: int) -> None:
            self.process_index = rank

        def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
            return tensor

    parts = []
    for rank in range(processes):
        loss.micro_batch = 1 + rank % 3
        parts.append(FixedLoss(loss, batch, Rank(rank))(vectors))
    torch.testing.assert_close(sum(parts), full)
    assert all((sum(part != 0 for part in parts) == 1).tolist())


def test_relative_to_itself_is_one_without_error():
    losses = torch.rand(24, generator=torch.Generator().manual_seed(0))
    assert relative_loss(losses, losses) == RelativeLoss(1.0, pytest.approx(0, abs=1e-9))


def test_standard_error_is_the_spread_over_repetitions():
    """Samples of very different difficulty, and a fall of 10% with noise."""
    random, values = np.random.default_rng(1), []
    for _ in range(2000):
        initial = random.uniform(0.05, 1.0, 24)
        values.append(relative_loss(initial * random.normal(0.9, 0.05, 24), initial))
    ratios = [relative.value for relative in values]
    assert np.mean(ratios) == pytest.approx(0.9, abs=0.002)
    assert np.std(ratios) == pytest.approx(np.mean([relative.stderr for relative in values]), rel=0.12)


def test_paired_error_is_far_below_the_unpaired_one():
    random = np.random.default_rng(2)
    initial = random.uniform(0.05, 1.0, 24)
    relative = relative_loss(0.9 * initial + random.normal(0, 0.005, 24), initial)
    assert relative.stderr < 0.1 * initial.std() / initial.mean() / np.sqrt(24)
