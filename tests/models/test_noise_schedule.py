"""The forward process equals that of diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from stages.models.noise_schedule import NoiseSchedule

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def schedulers(prediction_type: str, **options: bool) -> tuple[DDPMScheduler, NoiseSchedule]:
    scheduler = DDPMScheduler(**BETAS, prediction_type=prediction_type, **options)
    return scheduler, NoiseSchedule(scheduler.alphas_cumprod.float(), prediction_type)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_noise_and_target_equal_those_of_diffusers(prediction_type: str):
    scheduler, schedule = schedulers(prediction_type)
    latents, noise = torch.randn(2, 6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([0, 1, 250, 500, 998, 999])
    torch.testing.assert_close(
        schedule.add_noise(latents, noise, timesteps), scheduler.add_noise(latents, noise, timesteps)
    )
    target = {"epsilon": noise, "sample": latents, "v_prediction": scheduler.get_velocity(latents, noise, timesteps)}
    torch.testing.assert_close(schedule.target(latents, noise, timesteps), target[prediction_type])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_equal_those_of_the_paper(prediction_type: str):
    scheduler, schedule = schedulers(prediction_type)
    timesteps = torch.arange(1000)
    snr = compute_snr(scheduler, timesteps)
    expected = snr.clamp(max=5) / (snr if prediction_type == "epsilon" else snr + 1)
    torch.testing.assert_close(schedule.min_snr_weight(timesteps, 5.0), expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_last_step_without_signal_has_a_finite_weight(prediction_type: str):
    _, schedule = schedulers(prediction_type, rescale_betas_zero_snr=True)
    assert schedule.alphas_cumprod[-1] == 0
    assert torch.isfinite(schedule.min_snr_weight(torch.tensor([999]), 5.0)).all()
