"""One tiny model on disk for all tests of the package."""

from pathlib import Path

import pytest

from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.tiny_training import CONCEPT, open_tiny
from tests.tiny import tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def backbone(folder: Path) -> StableDiffusion:
    return open_tiny(folder)


@pytest.fixture
def three_vectors(folder: Path) -> StableDiffusion:
    return open_tiny(folder, CONCEPT.model_copy(update={"vectors": 3}))
