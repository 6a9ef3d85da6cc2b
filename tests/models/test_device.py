"""The machine: devices by name, threads by count."""

import os

import pytest
import torch

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.device import pick, ready


def test_a_device_that_is_not_here_is_refused():
    assert pick("cpu") == torch.device("cpu")
    here = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    missing = next(name for name in here if not here[name])
    with pytest.raises(UserError, match=f"`runtime.device` is {missing}, but PyTorch finds none"):
        pick(missing)


@pytest.mark.parametrize("processes", [1, 2, 1000])
def test_threads_are_the_cores_divided_among_the_processes(processes: int):
    before = torch.get_num_threads()
    try:
        assert ready(Runtime(device="cpu"), processes=processes) == torch.device("cpu")
        assert torch.get_num_threads() == max(1, len(os.sched_getaffinity(0)) // processes)
        ready(Runtime(device="cpu", threads=1, deterministic=False))
        assert torch.get_num_threads() == 1
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
