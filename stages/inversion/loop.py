"""The training loop."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator

from stages.common.distributed import all_reduce, share
from stages.inversion.callbacks import Callbacks
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.optimizer import Optimizer, reduce_scale
from stages.inversion.params import Train
from stages.inversion.sampler import Sampler
from stages.inversion.search import SearchCallbacks
from stages.inversion.state import TrainState
from stages.inversion.stopping import should_stop
from stages.inversion.validation import FixedLoss


class PausedError(Exception):
    """The run was asked to stop at `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


def training_loop(
    recipe: Train,
    state: TrainState,
    sampler: Sampler,
    loss: DiffusionLoss,
    *,
    validation: FixedLoss,
    optimizer: Optimizer,
    preview: Callable[[torch.Tensor], np.ndarray],
    accelerator: Accelerator,
    callbacks: Callbacks | SearchCallbacks,
    until: int | None = None,
) -> None:
    """Train `state` to step `until`, or to the end of the recipe. Raises PausedError on a stop request."""
    samples = share(recipe.batch_size, accelerator)
    draw = functools.lru_cache(maxsize=2)(lambda step: sampler.draw(step, samples).to(loss.device))
    while state.step != until:
        # Maintenance: what belongs to the state after `state.step` updates.
        is_last = state.step >= recipe.steps
        if (state.step % recipe.validation_every == 0 or is_last) and state.step not in state.validated[-1:]:
            state.record_validation(validation(state.average))
            relative = state.curve()[-1]
            callbacks.log(state.step, validation_loss=relative.value, validation_loss_stderr=relative.stderr)
        if recipe.progress_every and state.step % recipe.progress_every == 0 and accelerator.is_main_process:
            callbacks.preview(preview(state.average), state.step)
        if recipe.snapshot_every and state.step and state.step % recipe.snapshot_every == 0:
            state.record_snapshot()
        if is_last or should_stop(recipe, state):
            callbacks.flush()
            return
        callbacks.save_if_due(state)

        # Compute: one message per step. A stop request travels with the gradient, so that all processes stop together.
        scaled = loss.gradient(state.vectors, state.scale.value, draw(state.step))
        stop = torch.full((1,), float(callbacks.stop_requested()), device=scaled.device)
        total = all_reduce(accelerator, torch.cat([scaled, stop]))
        draw(state.step + 1)  # the device is still computing
        callbacks.flush()
        total = total.cpu()
        if total[-1]:
            callbacks.save(state)
            raise PausedError(state.step)

        # Update. After an overflow in half precision the same step is computed again with a lower loss scale.
        if not total.isfinite().all():
            reduce_scale(recipe, state, draw(state.step).timesteps)
            continue
        gradient = total[1:-1].view_as(state.vectors) / state.scale.value
        callbacks.log(state.step + 1, **optimizer.step(state, total[0].item(), gradient))
