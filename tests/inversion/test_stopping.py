"""When to stop, by hand-made curves."""

import numpy as np
import pytest

from stages.inversion.params import Train
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
    ids=["falls", "flat", "falls too little", "falls enough", "rises", "too early to say"],
)
def test_plateau(values: list[float], stops: bool):
    assert plateau(STEPS[: len(values)], values, patience=120, fall=0.002) is stops


def test_dvar_stops_when_the_window_is_calm_and_not_before_it_is_full():
    steps = list(range(0, 1000, 10))
    curve = [0.7 + 0.3 * np.exp(-step / 60) for step in steps]
    first = next(i for i in range(1, 100) if dvar(steps[:i], curve[:i], window=310, threshold=0.15))
    window = [v for s, v in zip(steps[:first], curve[:first], strict=True) if s > steps[first - 1] - 310]
    assert steps[first - 1] >= 310
    assert np.var(window) < 0.15 * np.var(curve[:first])
    noise = np.random.default_rng(0).normal(1, 0.1, 100).tolist()
    assert not any(dvar(steps[:i], noise[:i], window=310, threshold=0.15) for i in range(1, 100))


def test_the_papers_own_numbers_are_the_defaults():
    recipe = Train()
    assert (recipe.early_stopping_window, recipe.early_stopping_threshold, recipe.early_stopping) == (310, 0.15, "off")


def test_off_never_stops():
    assert not should_stop(Train(), STEPS, [1.0] * len(STEPS))
    assert should_stop(Train(early_stopping="plateau"), STEPS, [1.0] * len(STEPS))
