"""Early stopping on curves with known answers."""

import numpy as np
import pytest
import torch

from stages.inversion.params import Train
from stages.inversion.state import initial_state
from stages.inversion.stopping import dvar, plateau, should_stop

STEPS = list(range(0, 400, 40))


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([1.0, 0.9, 0.8, 0.7, 0.6], False),
        ([1.0, 0.8, 0.8, 0.8, 0.8], True),
        ([1.0, 0.8, 0.8, 0.8, 0.799], True),
        ([1.0, 0.8, 0.8, 0.8, 0.79], False),
        ([1.0, 0.8, 0.81, 0.83, 0.82], True),
        ([1.0, 0.9], False),
    ],
    ids=["falls", "flat", "falls too little", "falls enough", "rises", "too short"],
)
def test_plateau(values: list[float], stops: bool):
    assert plateau(STEPS[: len(values)], values, patience=120, fall=0.002) is stops


def test_dvar_stops_when_the_variance_of_a_full_window_is_low():
    steps = list(range(0, 1000, 10))
    curve = [0.7 + 0.3 * np.exp(-step / 60) for step in steps]
    first = next(i for i in range(1, 100) if dvar(steps[:i], curve[:i], window=310, threshold=0.15))
    window = [v for s, v in zip(steps[:first], curve[:first], strict=True) if s > steps[first - 1] - 310]
    assert steps[first - 1] >= 310
    assert np.var(window) < 0.15 * np.var(curve[:first])
    noise = np.random.default_rng(0).normal(1, 0.1, 100).tolist()
    assert not any(dvar(steps[:i], noise[:i], window=310, threshold=0.15) for i in range(1, 100))


def test_defaults_are_the_numbers_of_the_paper():
    recipe = Train()
    assert (recipe.early_stopping_window, recipe.early_stopping_threshold, recipe.early_stopping) == (310, 0.15, "off")


@pytest.mark.parametrize(
    ("rule", "step", "stops"), [("off", 360, False), ("plateau", 360, True), ("plateau", 361, False)]
)
def test_rule_is_applied_only_after_a_validation(rule: str, step: int, stops: bool):
    state = initial_state(Train(), "start", torch.zeros(1, 4), torch.ones(6))
    state.step = step
    state.validated, state.validation = STEPS, [torch.ones(6)] * len(STEPS)
    assert should_stop(Train(early_stopping=rule), state) is stops
