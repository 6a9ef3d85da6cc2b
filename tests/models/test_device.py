"""The machine: devices by name, threads by count."""

import os

import pytest
import torch

from stages import UserError
from stages.models.device import pick, prepare


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
        prepare(torch.device("cpu"), threads=None, processes=processes, deterministic=True, memory_gib=None, tf32=False)
        assert torch.get_num_threads() == max(1, len(os.sched_getaffinity(0)) // processes)
        prepare(torch.device("cpu"), threads=1, processes=1, deterministic=False, memory_gib=None, tf32=False)
        assert torch.get_num_threads() == 1
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
