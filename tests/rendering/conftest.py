"""A tiny model on disk, and its pipeline with an embedding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages.models.params import Model
from stages.rendering.pipeline import add_embedding, open_pipeline
from tests.outs import write_embedding
from tests.tiny import WIDTH, tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_model(tmp_path_factory.mktemp("rendering") / "model")


@pytest.fixture
def pipeline(model: Path, tmp_path: Path) -> StableDiffusionPipeline:
    pipeline = open_pipeline(Model(base=str(model)), None, "cpu", torch.float32)
    vectors = np.random.default_rng(0).standard_normal((1, WIDTH))
    add_embedding(pipeline, "<critter>", write_embedding(tmp_path / "embedding.safetensors", vectors))
    return pipeline
