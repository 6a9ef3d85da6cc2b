"""The training loop: draw, compute, sum over processes, step; now and then look at the objective and save.

The host may be a step behind the device: `state` is what it knows for certain, and steps on their way are in `flying`.
A step whose gradient is not finite moves nothing, and those behind it move nothing either, until it is launched again:
so the word is that of a loop which waits. What is launched depends on nothing that only one process knows, and so all
of them sum the same steps in the same order.

Legend: V vectors of the word, D width, K cells of the objective.
"""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch

from stages import UserError
from stages.inversion import stopping
from stages.inversion.callbacks import Surroundings
from stages.inversion.checkpoint import State
from stages.inversion.diffusion_loss import Compute
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.sampler import Batch, Sampler
from stages.inversion.validation import Value, curve, evaluate, relative


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
    # Those of the steps on their way, and the next one's.
    batch_of = functools.lru_cache(compute.ahead + 2)(lambda step: compute.load(sampler.draw(step, mine)))
    fixed = compute.load(fixed)
    if state.reference is None:
        state.reference = _objective(known, compute, fixed, crew, state.step)
    values = curve(state.cells, state.reference)
    launch = functools.partial(_launch, compute=compute, optimizer=optimizer, crew=crew, stop=around.interrupted)
    flying: deque[Callable[[], torch.Tensor]] = deque()
    sketched, unsaid = -1, []
    while True:
        # Maintenance: what belongs to the state after `state.step` steps.
        last = state.step >= recipe.steps
        if (state.step % recipe.validation_every == 0 or last) and state.step not in state.evaluated[-1:]:
            same = np.array_equal(known, state.vectors)
            state.record(state.reference if same else _objective(state.vectors, compute, fixed, crew, state.step))
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

        # Compute: while the device works, the next batch is drawn and sent, and the last step that is known is told.
        while len(flying) <= compute.ahead and state.step + len(flying) < recipe.steps:
            step, scale = state.step + len(flying), optimizer.scale(state, len(flying))
            flying.append(launch(step, scale, batch_of(step)))
        batch_of(state.step + len(flying))
        _tell(unsaid, values, around)
        with _together(crew, state.step):
            told = flying.popleft()().numpy()
        loss, wishes, moved = told[:3].tolist()
        if wishes:
            around.save(state)
            with _together(crew, state.step):
                for later in flying:
                    later()  # the others still sum it with this process
            raise PausedError(state.step)
        if not moved:
            optimizer.lower_scale(state, batch_of(state.step).timesteps)
            flying.clear()
            continue
        rate = optimizer.confirm(state, told[3:])
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


def _objective(vectors: np.ndarray, compute: Compute, fixed: Batch, crew: Crew, step: int) -> np.ndarray:
    """A word (V D) => losses (K) of the fixed cells with it."""
    word = torch.from_numpy(vectors)
    cells = evaluate(
        fixed,
        lambda part: compute.losses(word, part),
        compute.chunk,
        crew.process_index,
        crew.num_processes,
    )
    with _together(crew, step):
        return crew.reduce(cells.to(compute.device), "sum").cpu().numpy()


def _launch(
    step: int,
    scale: float,
    batch: Batch,
    *,
    compute: Compute,
    optimizer: Optimizer,
    crew: Crew,
    stop: Callable[[], bool],
) -> Callable[[], torch.Tensor]:
    """A step, its loss scale and this process's samples => a function that waits for what `Optimizer.step` tells.

    One message a step. The wish to stop travels with the gradient, because processes that stopped at different steps
    would wait for each other for ever.
    """
    pending = compute.gradient(optimizer.vectors, scale, batch)
    message = torch.cat([pending, torch.full((1,), float(stop()), device=pending.device)])
    with _together(crew, step):
        total = crew.reduce(message, "sum")
    return compute.fetch(optimizer.step(total, step, scale))


@contextlib.contextmanager
def _together(crew: Crew, step: int) -> Iterator[None]:
    """Within it, what fails because another process ended is said in a sentence."""
    try:
        yield
    except RuntimeError as error:
        if crew.num_processes == 1:
            raise
        raise UserError(
            f"process {crew.process_index} lost the others at step {step} ({str(error).splitlines()[0]}): one of them "
            "ended, and its message is above; run the same command to go on from the last checkpoint."
        ) from None


def start(recipe: Train, vectors: torch.Tensor, micro_batch: int) -> State:
    """The initial word (V D) => the state before the first step."""
    initial = vectors.numpy().astype(np.float32)
    scale = 2.0**16 if recipe.mixed_precision == "fp16" else 1.0
    zeros = np.zeros_like(initial)
    return State(initial, zeros, zeros.copy(), micro_batch, scale=scale)
