"""One tiny model on disk, and images for it, for all tests of the package."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.models import preview
from tests.inversion.tiny_training import draw_curated
from tests.tiny import tiny_model


@pytest.fixture(scope="module", autouse=True)
def short_previews() -> Iterator[None]:
    """Draw previews in 4 steps: 20 take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "STEPS", 4)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("inversion") / "model")


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_curated(tmp_path_factory.mktemp("images") / "curated")
