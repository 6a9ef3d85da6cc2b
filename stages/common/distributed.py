"""Share work among the processes of a run, and sum tensors over them."""

import torch
from accelerate import Accelerator

from stages import UserError


def check_world_size(accelerator: Accelerator, batch_size: int, *, equal_shares: bool) -> None:
    """Raise UserError if the world size, the number of processes, exceeds the samples of a batch.

    With `equal_shares` it must divide them.
    """
    if accelerator.num_processes > batch_size:
        raise UserError(
            f"{accelerator.num_processes} processes cannot share a batch of {batch_size}; launch fewer "
            "(`accelerate launch --num_processes`) or raise `train.batch_size`."
        )
    if equal_shares and batch_size % accelerator.num_processes:
        raise UserError(
            f"{accelerator.num_processes} processes that share a model cannot share a batch of {batch_size} equally; "
            "launch another number of them, or change `train.batch_size`."
        )


def share(size: int, accelerator: Accelerator) -> range:
    """Return which of `size` samples this process computes."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    return range(rank * size // processes, (rank + 1) * size // processes)


def all_reduce(accelerator: Accelerator, tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over the processes. Raises UserError if another process has ended."""
    try:
        return accelerator.reduce(tensor, "sum")
    except RuntimeError as error:
        if accelerator.num_processes == 1:
            raise
        raise UserError(
            f"process {accelerator.process_index} lost the connection to another process "
            f"({str(error).splitlines()[0]}); see the message of that process, and run the same command to continue "
            "from the last checkpoint."
        ) from None
