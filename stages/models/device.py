"""The machine that a model runs on: which device, how many threads, how exact, how much memory."""

import os
from typing import Protocol

import torch

from stages import UserError

GIB = 2**30
DTYPES = {"no": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Wishes(Protocol):
    """What a user may wish of the machine, and its cores; `runtime` has them."""

    device: str
    threads: int | str
    cores: int
    deterministic: bool
    memory_gib: float | None


def select_device(device: str, local_rank: int = 0) -> torch.device:
    """`runtime.device`, this process's number on the machine => a device. Raises UserError for one that is not here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cuda" if here["cuda"] else "cpu"
    if not here[device]:
        raise UserError(f"`runtime.device` is {device}, but PyTorch finds none here; set auto or cpu.")
    return torch.device(device, local_rank % torch.cuda.device_count()) if device == "cuda" else torch.device(device)


def configure_torch(wishes: Wishes, *, processes: int = 1, local_rank: int = 0, tf32: bool = False) -> torch.device:
    """Wishes => the device, with this process's threads, kernels and share of the accelerator's memory set for it.

    `threads: auto` takes the cores, divided among the machine's `processes`: `accelerate launch` sets one thread a
    process where there is no GPU, whatever the cores.
    """
    device, deterministic = select_device(wishes.device, local_rank), wishes.deterministic
    torch.set_num_threads(max(1, wishes.cores // processes) if wishes.threads == "auto" else wishes.threads)
    # Flash attention's backward pass is exact only in the strict mode; filling memory would cost time for nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if wishes.memory_gib is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, wishes.memory_gib * GIB / total), device)
    return device
