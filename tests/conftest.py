"""Settings that must be made before PyTorch and Triton are imported, and one fork server for all tests."""

import os
from multiprocessing import forkserver

import pytest

# The tests run in parallel: with one thread each, they do not wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

# Without a GPU, Triton's kernels run in its interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """Start the fork server with the imports of all its users; else the first user would decide."""
    forkserver.set_forkserver_preload(
        ["stages.train", "stages.images.quality.manifest", "tests.inversion.stage_process"]
    )
    forkserver.ensure_running()


LONGEST_FIRST = (
    "test_pipeline",
    "inversion/test_stage",
    "test_interrupts",
    "test_loop",
    "test_fused",
    "test_own_images",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest modules first, so that the short ones keep all processes busy until the end."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST_FIRST) if name in item.nodeid), 9))
