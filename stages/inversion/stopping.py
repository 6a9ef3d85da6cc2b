"""When to stop: pure functions of the objective's curve, so that a resumed run decides as an uninterrupted one."""

import numpy as np

from stages.inversion.params import Train


def should_stop(recipe: Train, steps: list[int], values: list[float]) -> bool:
    """Evaluated steps and the objective there => whether `recipe.early_stopping` has seen enough."""
    if recipe.early_stopping == "plateau":
        return plateau(steps, values, recipe.early_stopping_patience, recipe.early_stopping_fall)
    if recipe.early_stopping == "dvar":
        return dvar(steps, values, recipe.early_stopping_window, recipe.early_stopping_threshold)
    return False


def plateau(steps: list[int], values: list[float], patience: int, fall: float) -> bool:
    """True when the best value of the last `patience` steps is not `fall` below the best of before."""
    recent = [v for s, v in zip(steps, values, strict=True) if s > steps[-1] - patience]
    before = values[: len(values) - len(recent)]
    return bool(before) and min(recent) > min(before) - fall


def dvar(steps: list[int], values: list[float], window: int, threshold: float) -> bool:
    """True when the last `window` steps vary less than `threshold` times as much as all did (Voronov et al. 2023).

    The paper evaluates at every step, so that its window of 310 values is one of 310 steps.
    """
    if steps[-1] - steps[0] < window:
        return False
    recent = [v for s, v in zip(steps, values, strict=True) if s > steps[-1] - window]
    return len(recent) > 1 and float(np.var(recent)) < threshold * float(np.var(values))
