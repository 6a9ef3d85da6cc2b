"""Data-parallel training on several GPUs of one machine: equal weights, and a shard of the images per process."""

import os

import torch
from torch import distributed


def init_process_group(device: str) -> None:
    """Join the processes that torchrun started; each uses the GPU of its local rank."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")


def average_gradients(parameters: list[torch.Tensor]) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    if not distributed.is_initialized():
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def broadcast_seconds(seconds: float, device: str) -> float:
    """Return the time of rank 0, so that all processes use the same learning rate and stop at the same step."""
    if not distributed.is_initialized():
        return seconds
    message = torch.tensor([seconds], dtype=torch.float64, device=device)
    distributed.broadcast(message, 0)
    return message.item()


def destroy_process_group() -> None:
    """Wait for the other processes and leave the process group, if there is one."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
