"""Several processes, one a GPU, that train together: the same weights, each with its own pictures."""

import os

import torch
from torch import distributed


def init_process_group(options) -> None:
    """Meets the other processes that torchrun started; each takes the GPU of its number."""
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if options.device == "cuda" else "gloo")


def is_single_process() -> bool:
    """=> whether there is no other process."""
    return not distributed.is_initialized()


def average_gradients(parameters: list[torch.Tensor]) -> None:
    """Every gradient becomes its mean over the processes, in one message."""
    if is_single_process():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast_seconds(seconds: float, device: str) -> float:
    """=> the first process's clock, so that all of them set the same rate and stop at the same step."""
    if is_single_process():
        return seconds
    message = torch.tensor([seconds], dtype=torch.float64, device=device)
    distributed.broadcast(message, 0)
    return message.item()


def destroy_process_group() -> None:
    """Waits for the others and parts."""
    if not is_single_process():
        distributed.barrier()
        distributed.destroy_process_group()
