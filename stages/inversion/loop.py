"""The training loop: draw, compute, sum over processes, step; now and then look at the objective and save.

Legend: V vectors of the word, D width, K cells of the objective.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from stages import UserError
from stages.inversion import stopping
from stages.inversion.batches import Batch, Sampler
from stages.inversion.checkpoint import State
from stages.inversion.compute import Compute
from stages.inversion.objective import Value, curve, evaluate, relative
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.surroundings import Surroundings


class Crew(Protocol):
    """The processes that train together; what `accelerate.Accelerator` offers of them."""

    process_index: int
    num_processes: int
    is_main_process: bool

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        """A tensor of every process => their sum, in every process."""

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of every process => all of them, in every process."""


class PausedError(Exception):
    """The run was asked to stop at `step`, has saved its state, and goes on from there when it is started again."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


def learn(
    recipe: Train,
    state: State,
    compute: Compute,
    sampler: Sampler,
    fixed: Batch,
    *,
    optimizer: Optimizer,
    known: np.ndarray,
    sketch: Callable[[np.ndarray], np.ndarray],
    crew: Crew,
    around: Surroundings,
) -> State:
    """A state => the state at the end: all steps done, or stopped early. Raises PausedError, and UserError for a loss
    that is not a number. `known` is the initializer word (V D), which the objective is relative to; `sketch` draws a
    word (V D) as a picture (H W 3), in the main process."""
    mine = share(recipe.batch_size, crew.process_index, crew.num_processes)
    upcoming = compute.load(sampler.draw(state.step, mine))
    fixed = compute.load(fixed)
    if state.reference is None:
        state.reference = _objective(known, compute, fixed, crew)
    values = curve(state.cells, state.reference)
    sketched, unsaid = -1, []
    while True:
        # Maintenance: what belongs to the state after `state.step` steps.
        last = state.step >= recipe.steps
        if (state.step % recipe.validation_every == 0 or last) and state.step not in state.evaluated[-1:]:
            same = np.array_equal(known, state.vectors)
            state.record(state.reference if same else _objective(state.vectors, compute, fixed, crew))
            values.append(relative(state.cells[-1], state.reference))
            unsaid.append((state.step, {"objective": values[-1].relative, "objective_stderr": values[-1].stderr}))
        if recipe.progress_every and state.step % recipe.progress_every == 0 and state.step > sketched:
            if crew.is_main_process:
                around.picture(sketch(state.vectors), state.step)
            sketched = state.step
        if recipe.snapshot_every and state.step and state.step % recipe.snapshot_every == 0:
            state.snapshot()
        if last or stopping.should_stop(recipe, state.evaluated, [value.relative for value in values]):
            break
        if around.due():
            around.save(state)

        # Compute: while the device works on this batch, the next one is drawn and sent, and the last step is told.
        batch = upcoming
        pending = compute.gradient(torch.from_numpy(state.vectors), state.scale, batch)
        upcoming = compute.load(sampler.draw(state.step + 1, mine))
        _tell(unsaid, values, around)
        loss, gradient, stop = _sum(pending, around.interrupted(), crew, state.step)
        if stop:
            around.save(state)
            raise PausedError(state.step)
        if not np.isfinite(gradient).all() or not np.isfinite(loss):
            optimizer.lower_scale(state, batch.timesteps.tolist())
            upcoming = batch
            continue
        rate = optimizer.step(state, gradient)
        state.losses.append(loss)
        state.norms.append(float(np.linalg.norm(state.vectors, axis=1).mean()))
        unsaid.append((state.step, {"loss": loss, "learning_rate": rate, "vector_norm": state.norms[-1]}))
    _tell(unsaid, values, around)
    return state


def share(batch_size: int, rank: int, world: int) -> range:
    """Global batch, a process's number, how many there are => the samples that are its own."""
    return range(rank * batch_size // world, (rank + 1) * batch_size // world)


def _tell(unsaid: list[tuple[int, dict[str, float]]], values: list[Value], around: Surroundings) -> None:
    """What was measured since the last time => trackers and the bar."""
    for step, numbers in unsaid:
        around.log(numbers, step)
        around.bar(step, f"objective {values[-1].relative:.3f}")
    unsaid.clear()


def _objective(vectors: np.ndarray, compute: Compute, fixed: Batch, crew: Crew) -> np.ndarray:
    """A word (V D) => losses (K) of the fixed cells with it."""
    word = torch.from_numpy(vectors)
    cells = evaluate(
        fixed,
        lambda part: compute.losses(word, part),
        compute.chunk,
        crew.process_index,
        crew.num_processes,
    )
    return crew.reduce(cells.to(compute.device), "sum").cpu().numpy()


def _sum(pending: torch.Tensor, interrupted: bool, crew: Crew, step: int) -> tuple[float, np.ndarray, bool]:
    """This process's (1 + V D) and whether it was asked to stop => loss, gradient (V D), stop of all processes.

    One message a step, and the step's only wait for the device. The wish to stop travels with the gradient, because
    processes that stopped at different steps would wait for each other for ever.
    """
    message = torch.cat([pending, torch.full((1,), float(interrupted), device=pending.device)])
    try:
        total = crew.reduce(message, "sum").cpu().numpy()
    except RuntimeError as error:
        if crew.num_processes == 1:
            raise
        raise UserError(
            f"process {crew.process_index} lost the others at step {step} ({str(error).splitlines()[0]}): one of them "
            "ended, and its message is above; run the same command to go on from the last checkpoint."
        ) from None
    return float(total[0]), total[1:-1], bool(total[-1])


def start(recipe: Train, vectors: torch.Tensor, micro_batch: int) -> State:
    """The initial word (V D) => the state before the first step."""
    initial = vectors.numpy().astype(np.float32)
    scale = 2.0**16 if recipe.mixed_precision == "fp16" else 1.0
    zeros = np.zeros_like(initial)
    return State(initial, zeros, zeros.copy(), micro_batch, scale=scale)
