"""The machine that a model runs on: which device, how many threads, how exact, how much memory."""

import os

import torch

from stages import UserError

GIB = 2**30
DTYPES = {"no": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick(device: str, local_rank: int = 0) -> torch.device:
    """`runtime.device`, this process's number on the machine => a device. Raises UserError for one that is not here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cuda" if here["cuda"] else "cpu"
    if not here[device]:
        raise UserError(f"`runtime.device` is {device}, but PyTorch finds none here; set auto or cpu.")
    return torch.device(device, local_rank % torch.cuda.device_count()) if device == "cuda" else torch.device(device)


def prepare(
    device: torch.device,
    *,
    threads: int | None,
    processes: int,
    deterministic: bool,
    memory_gib: float | None,
    tf32: bool,
) -> None:
    """Set this process's threads, kernels and share of the accelerator's memory.

    `threads` None takes the machine's cores, divided among its `processes`: `accelerate launch` sets one thread a
    process where there is no GPU, whatever the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or max(1, cores // processes))
    # Flash attention's backward pass is exact only in the strict mode; filling memory would cost time for nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Left alone, the search for the fastest convolution tries one that takes all memory there is; the cap is in MiB.
    os.environ.setdefault("CUDNN_CONV_WSCAP_DBG", "1024")
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if memory_gib is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, memory_gib * GIB / total), device)
