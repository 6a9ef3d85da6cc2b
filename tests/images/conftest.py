"""A Kaggle of our own for a test, and how to get a set from it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.images.sources.fetch import fetch
from stages.images.sources.params import Dataset
from tests.images.archives import archive
from tests.images.loopback import Kaggle, serve

Setup = Callable[..., Kaggle]
SMALL = archive(4, 50)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setup]:
    """A function that starts a server for the test."""
    with contextlib.ExitStack() as stack:
        (tmp_path / "home").mkdir()
        yield lambda **what: stack.enter_context(
            serve(Kaggle(**({"archives": {1: SMALL}} | what)), monkeypatch, str(tmp_path / "home"))
        )


def get(tmp_path: Path, **kaggle: object) -> dict:
    """=> the receipt, with the pictures in raw."""
    section = {"dataset": "someone/creatures"} | kaggle
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return fetch(Dataset(source="kaggle", kaggle=section), tmp_path / "raw", tmp_path / "scratch")
