"""The fixed objective: the same cells every time, and an error that is the error."""

import numpy as np
import pytest
import torch

from stages.inversion.validation import curve, evaluate, fixed_batch, relative
from tests.inversion.test_sampler import IDS, SCHEDULE, pictures


def cells(seed: int = 0, strata: int = 4, **options: object):
    return fixed_batch(pictures(), IDS, SCHEDULE, seed=seed, strata=strata, **options)


def test_the_cells_are_the_same_every_time_and_others_for_another_seed():
    for tensor, expected in zip(cells().tensors(), cells().tensors(), strict=True):
        assert torch.equal(tensor, expected)
    assert not torch.equal(cells().noise, cells(seed=1).noise)


def test_timesteps_are_stratified_and_every_picture_sees_every_region():
    batch = cells()
    assert batch.timesteps.tolist() == [25 + 50 * i for i in range(20)]
    for picture in range(5):
        mine = batch.timesteps[picture::5] // 250
        assert mine.tolist() == [0, 1, 2, 3]
    assert cells(interval=(0.2, 0.8)).timesteps.min() >= 200
    assert cells(interval=(0.2, 0.8)).timesteps.max() < 800


def test_processes_and_chunks_give_the_same_losses():
    batch = cells()

    def losses(part):
        return part.timesteps.float() + part.noise.flatten(1).sum(1)

    whole = evaluate(batch, losses, 100, 0, 1)
    for world, chunk in ((2, 3), (3, 1), (30, 8)):
        parts = [evaluate(batch, losses, chunk, rank, world) for rank in range(world)]
        torch.testing.assert_close(sum(parts), whole)
        assert all((sum(part != 0 for part in parts) == 1).tolist())


def test_relative_to_itself_is_one_without_error():
    losses = np.random.default_rng(0).random(24).astype(np.float32)
    assert relative(losses, losses) == (value := curve([losses], losses)[0])
    assert value.relative == pytest.approx(1)
    assert value.stderr == pytest.approx(0, abs=1e-9)


def test_the_standard_error_is_the_spread_over_repetitions():
    """Cells of very different difficulty, a fall of 10% with noise: it says how far the ratios really scatter."""
    random, values = np.random.default_rng(1), []
    for _ in range(2000):
        initial = random.uniform(0.05, 1.0, 24)
        values.append(relative(initial * random.normal(0.9, 0.05, 24), initial))
    said = np.mean([value.stderr for value in values])
    assert np.mean([value.relative for value in values]) == pytest.approx(0.9, abs=0.002)
    assert np.std([value.relative for value in values]) == pytest.approx(said, rel=0.12)


def test_the_paired_error_is_far_below_the_unpaired_one():
    random = np.random.default_rng(2)
    initial = random.uniform(0.05, 1.0, 24)
    value = relative(0.9 * initial + random.normal(0, 0.005, 24), initial)
    assert value.stderr < 0.1 * initial.std() / initial.mean() / np.sqrt(24)
