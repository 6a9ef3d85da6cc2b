"""Devices by name, and threads by count."""

import os

import pytest
import torch

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.device import configure_torch, select_device


def test_missing_device_is_refused():
    assert select_device("cpu") == torch.device("cpu")
    available = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    missing = next(name for name in available if not available[name])
    with pytest.raises(UserError, match=f"`runtime.device` is {missing}, but PyTorch finds no such device"):
        select_device(missing)


@pytest.mark.parametrize("processes", [1, 2, 1000])
def test_processes_share_the_cores(processes: int):
    before = torch.get_num_threads()
    try:
        assert configure_torch(Runtime(device="cpu"), processes=processes) == torch.device("cpu")
        assert torch.get_num_threads() == max(1, len(os.sched_getaffinity(0)) // processes)
        configure_torch(Runtime(device="cpu", threads=1, deterministic=False))
        assert torch.get_num_threads() == 1
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
