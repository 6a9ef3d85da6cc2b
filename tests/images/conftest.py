"""Fetch datasets, also from a local server instead of Kaggle."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.images.sources import transfer
from stages.images.sources.fetch import fetch
from stages.images.sources.params import Dataset
from tests.images.archives import archive
from tests.images.loopback import Kaggle, serve

Start = Callable[..., Kaggle]
SMALL = archive(4, 50)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float]) -> Iterator[Start]:
    """Return a function that starts a server with the given archives and faults."""
    with contextlib.ExitStack() as stack:
        options = {"archives": {1: SMALL}}
        yield lambda **more: stack.enter_context(serve(Kaggle(**options | more), monkeypatch, str(tmp_path)))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits of a transfer, in seconds, and skip them."""
    recorded: list[float] = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=recorded.append, monotonic=time.monotonic))
    return recorded


def fetched(folder: Path, **dataset: object) -> tuple[dict, dict[str, bytes]]:
    """Fetch a dataset to folder/raw; return the receipt and the files."""
    receipt = fetch(Dataset(**dataset), folder / "raw", folder / "scratch")
    return receipt, {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.glob("raw/*/*")}


def get(folder: Path, max_gib: float = 1.0, **kaggle: object) -> dict:
    """Fetch the dataset from Kaggle as a new process does; return the receipt."""
    sys.modules.pop("kaggle", None)  # the client reads the credentials when it is imported
    return fetched(folder, source="kaggle", kaggle={"dataset": "someone/creatures"} | kaggle, max_gib=max_gib)[0]
