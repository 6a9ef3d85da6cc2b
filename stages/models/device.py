"""Select the device, and configure PyTorch's threads, determinism and memory limit."""

import os

import torch

from stages import UserError
from stages.common.runtime import Runtime

GIB = 2**30
DTYPES = {"no": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def select_device(device: str, local_rank: int = 0) -> torch.device:
    """Return the device that `runtime.device` names. Raises UserError if PyTorch does not find it."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cuda" if available["cuda"] else "cpu"
    if not available[device]:
        raise UserError(f"`runtime.device` is {device}, but PyTorch finds no such device; set it to auto or cpu.")
    return torch.device(device, local_rank % torch.cuda.device_count()) if device == "cuda" else torch.device(device)


def configure_torch(runtime: Runtime, *, processes: int = 1, local_rank: int = 0, tf32: bool = False) -> torch.device:
    """Configure PyTorch on this process's device: threads, deterministic kernels, memory limit; return the device.

    With `threads: auto` the `processes` of this machine share its cores: `accelerate launch` would set one thread each.
    """
    device = select_device(runtime.device, local_rank)
    torch.set_num_threads(max(1, runtime.cores // processes) if runtime.threads == "auto" else runtime.threads)
    # Required by deterministic cuBLAS. Filling uninitialized memory would only cost time: every output is written.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(runtime.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.deterministic = runtime.deterministic
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if runtime.memory_gib is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, runtime.memory_gib * GIB / total), device)
    return device
