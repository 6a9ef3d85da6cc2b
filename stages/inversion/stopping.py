"""Early stopping: pure functions of the validation curve, so that a resumed run decides as an uninterrupted one."""

import numpy as np

from stages.inversion.params import Train
from stages.inversion.state import TrainState


def should_stop(recipe: Train, state: TrainState) -> bool:
    """Apply `recipe.early_stopping` to the curve if a value has just been added to it."""
    if recipe.early_stopping == "off" or state.step != state.validated[-1]:
        return False
    steps, values = state.validated, [relative.value for relative in state.curve()]
    if recipe.early_stopping == "plateau":
        return plateau(steps, values, recipe.early_stopping_patience, recipe.early_stopping_fall)
    return dvar(steps, values, recipe.early_stopping_window, recipe.early_stopping_threshold)


def plateau(steps: list[int], values: list[float], patience: int, fall: float) -> bool:
    """Return whether the best value of the last `patience` steps is not `fall` below the best before them."""
    recent = [v for s, v in zip(steps, values, strict=True) if s > steps[-1] - patience]
    before = values[: len(values) - len(recent)]
    return bool(before) and min(recent) > min(before) - fall


def dvar(steps: list[int], values: list[float], window: int, threshold: float) -> bool:
    """Return whether the variance of the last `window` steps is below `threshold` times the variance of all.

    Voronov et al. (2023). The paper evaluates at every step, so that its window of 310 values is one of 310 steps.
    """
    if steps[-1] - steps[0] < window:
        return False
    recent = [v for s, v in zip(steps, values, strict=True) if s > steps[-1] - window]
    return len(recent) > 1 and float(np.var(recent)) < threshold * float(np.var(values))
