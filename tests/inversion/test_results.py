"""Metrics, the summary sentence, tables and embedding files of a finished run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.common.provenance import Provenance
from stages.inversion.params import Train
from stages.inversion.results import embedding_files, loss_csv, metrics, summary, validation_csv
from stages.inversion.state import initial_state
from stages.inversion.train import Result
from stages.inversion.validation import RelativeLoss
from stages.models.embedding import Tables
from stages.models.params import Model
from tests.inversion.tiny_training import CONCEPT

RECIPE = Train(steps=80, validation_every=40)


def make_result(curve: list[float], test: RelativeLoss) -> Result:
    """Make a run with these relative validation losses, one every 40 steps."""
    initial = np.random.default_rng(0).uniform(0.1, 1.0, 24)
    state = initial_state(RECIPE, "word fox", torch.zeros(1, 4), torch.tensor(initial, dtype=torch.float32))
    for i, value in enumerate(curve):
        state.step, state.average = 40 * i, torch.full((1, 4), float(i))
        state.record_validation(state.reference * value)
        state.record_snapshot()
    state.train_losses, state.norms = [0.5, 0.25], [1.0, 2.0]
    return Result(state, Tables({"clip": 4}), "stable-diffusion-v1", test, "fox, cat", "owl, dragon")


def test_learned_embedding_is_reported_with_error_and_best_step():
    text = summary(RECIPE, make_result([1.0, 0.8, 0.95], RelativeLoss(0.877, 0.004)))
    assert text == (
        "learned: the test loss is 12.3% (± 0.4) below the initializer token's, best at step 40 of 80; "
        "start: word fox; nearest words: owl, dragon"
    )


@pytest.mark.parametrize(
    ("curve", "test", "advice"),
    [
        (
            [1.0, 0.9, 0.9],
            RelativeLoss(0.9, 0.06),
            "below the initializer token's, best at step 40 of 80; try `concept",
        ),
        ([1.0, 1.3, 1.5], RelativeLoss(1.2, 0.01), "above the initializer token's, best at step 0 of 80; try a lower"),
        ([1.0, 1.0], RelativeLoss(1.0, 0.0), "0.0% (± 0.0) below"),
    ],
    ids=["within its error", "diverged", "no change"],
)
def test_embedding_that_was_not_learned_comes_with_advice(curve: list[float], test: RelativeLoss, advice: str):
    text = summary(RECIPE, make_result(curve, test))
    assert text.startswith("not learned: ")
    assert advice in text


def test_metrics_are_flat_and_those_of_the_best_embedding():
    values = metrics(RECIPE, make_result([1.0, 0.8, 0.9], RelativeLoss(0.82, 0.01)))
    assert all(isinstance(value, bool | int | float | str) for value in values.values())
    assert (values["learned"], values["best_step"], values["stopped_early"]) == (True, 40, False)
    assert (values["test_fall_percent"], values["test_fall_stderr_percent"]) == (18.0, 1.0)
    assert values["validation_loss_relative"] == pytest.approx(0.8)
    assert values["validation_loss_last_relative"] == pytest.approx(0.9)
    assert values["vector_norm"] == pytest.approx(2.0)


def test_tables_have_a_row_per_step_and_per_validation():
    result = make_result([1.0, 0.8], RelativeLoss(0.8, 0.01))
    assert loss_csv(RECIPE, result) == "step,loss,learning_rate,vector_norm\n1,0.5,0.0005,1\n2,0.25,0.0005,2\n"
    rows = validation_csv(result).splitlines()
    assert rows[0] == "step,relative,stderr,loss"
    assert rows[1].startswith("0,1,")
    assert rows[2].startswith("40,0.8,")


def test_embedding_files_record_provenance_without_local_paths():
    source = Provenance({"train": {}}, {"torch": "2"}, "abc", "run")
    sections = SimpleNamespace(train=RECIPE, concept=CONCEPT, model=Model(base="/mnt/somewhere/models/small"))
    files = embedding_files(sections, make_result([1.0, 0.8], RelativeLoss(0.8, 0.01)), source)
    assert sorted(files) == [
        "learned_embeds.safetensors",
        "snapshots/step-000000.safetensors",
        "snapshots/step-000040.safetensors",
    ]
    for content in files.values():
        assert b"somewhere" not in content
        assert b'"base_model": "small"' in content
        assert b'"token": "<critter>"' in content
