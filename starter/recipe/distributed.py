"""Several processes, one a GPU, that train together: the same weights, each with its own pictures."""

import os

import torch
from torch import distributed


def join(options) -> None:
    """Meets the other processes that torchrun started; each takes the GPU of its number."""
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if options.device == "cuda" else "gloo")


def alone() -> bool:
    """=> whether there is no other process."""
    return not distributed.is_initialized()


def share_gradients(parameters: list[torch.Tensor]) -> None:
    """Every gradient becomes its mean over the processes, in one message."""
    if alone():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def clock_of_first(seconds: float, device: str) -> float:
    """=> the first process's clock, so that all of them set the same rate and stop at the same step."""
    if alone():
        return seconds
    message = torch.tensor([seconds], dtype=torch.float64, device=device)
    distributed.broadcast(message, 0)
    return message.item()


def leave() -> None:
    """Waits for the others and parts."""
    if not alone():
        distributed.barrier()
        distributed.destroy_process_group()
