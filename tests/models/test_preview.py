"""Progress pictures: diffusers' DDIM by another hand, and a function of the word alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from stages.models.preview import preview, step
from stages.models.schedule import Schedule
from tests.inversion.tiny_training import opened
from tests.models.test_schedule import BETAS

SHAPE = (4, 8, 8)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_step_is_that_of_diffusers(prediction_type: str):
    ddim = DDIMScheduler(**BETAS, prediction_type=prediction_type, clip_sample=False, timestep_spacing="trailing")
    ddim.set_timesteps(20)
    ours = Schedule(DDPMScheduler(**BETAS).alphas_cumprod, prediction_type)
    noisy, predicted = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    times = [*ddim.timesteps.tolist(), None]
    for i in (0, 7, 19):
        expected = ddim.step(predicted, times[i], noisy).prev_sample
        torch.testing.assert_close(step(ours, noisy, predicted, times[i], times[i + 1]), expected, rtol=1e-4, atol=1e-5)


def test_the_same_word_gives_the_same_picture_and_another_word_another(folder: Path):
    backbone = opened(folder)
    word = backbone.initial_vectors(0).numpy()
    first = preview(backbone, "a photo of a <critter>", word, SHAPE, 0)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, preview(opened(folder), "a photo of a <critter>", word, SHAPE, 0))
    assert not np.array_equal(first, preview(backbone, "a photo of a <critter>", -9 * word, SHAPE, 0))
