"""Settings that must be made before PyTorch and Triton are imported, and the order of the tests."""

import gc
import os

import pytest

# The tests run in parallel: with one thread each, they do not wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

gc.set_threshold(50_000, 20, 100)  # as stages/__init__.py does for the processes of stages

# Without a GPU, Triton's kernels run in its interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


LONGEST_FIRST = (
    "test_pipeline",
    "inversion/test_stage",
    "test_interrupts",
    "rendering/test_families",
    "inversion/test_families",
    "test_loop",
    "rendering/test_render",
    "rendering/test_sampling",
    "test_fused",
    "test_own_images",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest modules first, so that the short ones keep all processes busy until the end."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST_FIRST) if name in item.nodeid), 99))
