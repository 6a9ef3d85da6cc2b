"""One tiny model on disk for the whole room."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages.models.params import Model
from stages.rendering.pipeline import add_embedding, open_pipeline
from tests.tiny import WIDTH, tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("rendering") / "model")


@pytest.fixture(scope="session")
def vectors() -> torch.Tensor:
    return torch.randn((1, WIDTH), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pipeline(folder: Path, vectors: torch.Tensor) -> StableDiffusionPipeline:
    """The tiny model with a word in it."""
    torch.set_num_threads(1)
    opened = open_pipeline(Model(base=str(folder)), None, "cpu", torch.float32)
    add_embedding(opened, "<critter>", vectors)
    return opened
