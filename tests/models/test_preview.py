"""Previews equal diffusers' pipeline with DDIM, and depend on the embedding only."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from stages.models.philox import normal
from stages.models.preview import GUIDANCE, STEPS, preview
from tests.inversion.tiny_training import open_tiny
from tests.tiny import tiny_model

SHAPE, SIZES = (4, 8, 8), torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_preview_equals_the_pipeline_of_diffusers(tmp_path: Path, prediction_type: str):
    model = tiny_model(tmp_path / "model", prediction_type)
    vectors = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    pipeline.load_textual_inversion({"<critter>": vectors}, token="<critter>")
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a photo of a <critter>",
        latents=torch.from_numpy(normal(0, "render", 0, 0, (1, *SHAPE))),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
    ).images[0]
    image = preview(open_tiny(model), "a photo of a <critter>", vectors, SHAPE, SIZES, seed=0)
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert np.abs(image - 255 * expected).max() <= 1


def test_preview_depends_on_the_embedding_only(folder: Path):
    backbone = open_tiny(folder)
    vectors = backbone.text.initializer_vectors()
    first = preview(backbone, "a photo of a <critter>", vectors, SHAPE, SIZES, seed=0)
    assert np.array_equal(first, preview(open_tiny(folder), "a photo of a <critter>", vectors, SHAPE, SIZES, seed=0))
    assert not np.array_equal(first, preview(backbone, "a photo of a <critter>", -9 * vectors, SHAPE, SIZES, seed=0))
