"""Figures and the sentence at the end."""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.inversion.checkpoint import State
from stages.inversion.params import Train
from stages.inversion.results import loss_rows, metrics, objective_rows, sentence, word_files
from stages.models.params import Model
from tests.inversion.tiny_training import CONCEPT

RECIPE = Train(steps=80, validation_every=40)


def finished(curve: list[float], scatter: float = 0.001) -> State:
    """A run whose objective took these values, relative to the first, at every 40th step."""
    random = np.random.default_rng(0)
    initial = random.uniform(0.1, 1.0, 24)
    state = State(*(np.zeros((1, 4), dtype=np.float32) for _ in range(3)), micro_batch=4)
    state.reference = initial.astype(np.float32)
    for i, value in enumerate(curve):
        state.step = 40 * i
        state.vectors = np.full((1, 4), i, dtype=np.float32)
        state.record((initial * value + random.normal(0, scatter, 24) * (i > 0)).astype(np.float32))
        state.snapshot()
    state.losses, state.norms = [0.5, 0.25], [1.0, 2.0]
    return state


def test_a_word_that_was_learnt_is_said_to_be_with_its_error_and_best_step():
    said = sentence(RECIPE, finished([1.0, 0.877, 0.95]))
    assert said.startswith("learnt: the objective fell by 12.")
    assert said.endswith("best at step 40 of 80")
    assert " ± 0." in said


@pytest.mark.parametrize(
    ("curve", "scatter", "advice"),
    [
        ([1.0, 0.999, 0.998], 0.05, "more `train.steps`"),
        ([1.0, 1.3, 1.5], 0.01, "a lower `train.learning_rate`"),
        ([1.0, 1.0], 0.0, "more `train.steps`"),
    ],
    ids=["within its error", "driven too far", "no change"],
)
def test_a_word_that_was_not_learnt_is_said_not_to_be_and_what_to_try(curve: list[float], scatter: float, advice: str):
    said = sentence(RECIPE, finished(curve, scatter))
    assert said.startswith("not learnt: the objective fell by ")
    assert f"try {advice}" in said


def test_figures_are_flat_and_those_of_the_best():
    figures = metrics(RECIPE, finished([1.0, 0.8, 0.9]))
    assert all(isinstance(value, bool | int | float) for value in figures.values())
    assert figures["best_step"] == 40
    assert figures["objective_relative"] == pytest.approx(0.8, abs=0.002)
    assert figures["objective_last_relative"] == pytest.approx(0.9, abs=0.002)
    assert figures["vector_norm"] == pytest.approx(2.0)
    assert not figures["stopped_early"]


def test_tables_have_a_row_a_step_and_a_row_an_evaluation():
    state = finished([1.0, 0.8])
    assert loss_rows(RECIPE, state).splitlines() == [
        "step,loss,learning_rate,vector_norm",
        "1,0.5,0.0005,1",
        "2,0.25,0.0005,2",
    ]
    rows = objective_rows(state).splitlines()
    assert rows[0] == "step,relative,stderr,loss"
    assert rows[1].startswith("0,1.000000,0.000000,")
    assert rows[2].startswith("40,0.80")


def test_files_say_where_they_come_from_and_not_where_on_the_machine():
    origin = SimpleNamespace(params={"train": {}}, versions={"torch": "2"}, data="abc")
    params = SimpleNamespace(train=RECIPE, concept=CONCEPT, model=Model(base="/home/somebody/models/small"))
    files = word_files(params, finished([1.0, 0.8]), origin)
    assert sorted(files) == [
        "learned_embeds.safetensors",
        "snapshots/step-000000.safetensors",
        "snapshots/step-000040.safetensors",
    ]
    for content in files.values():
        assert b"somebody" not in content
        assert b'"base_model": "small"' in content
        assert b'"token": "<critter>"' in content
