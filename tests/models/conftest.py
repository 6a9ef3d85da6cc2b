"""One tiny model on disk for the whole room."""

from pathlib import Path

import pytest

from stages.models.params import Concept
from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.tiny_training import CONCEPT, opened
from tests.tiny import tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def backbone(folder: Path) -> StableDiffusion:
    return opened(folder)


@pytest.fixture
def threefold(folder: Path) -> StableDiffusion:
    """The same with a word of three vectors."""
    return opened(folder, Concept(**CONCEPT.model_dump() | {"vectors": 3}))
