"""What a finished run leaves: metrics, a summary, curves as CSV, and the embedding files."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from stages.common.provenance import Provenance
from stages.common.snapshots import snapshot_name
from stages.inversion.embedding_file import dump, model_spec, tensors
from stages.inversion.optimizer import learning_rates
from stages.inversion.params import Train
from stages.inversion.train import Result


def metrics(recipe: Train, result: Result) -> dict[str, float | int | bool | str]:
    """Return the metrics of train.json, none of which depends on time or machine.

    The embedding counts as learned if its test loss is more than two standard errors below the initializer token's.
    """
    state, test, curve = result.state, result.test, result.state.curve()
    best = curve[state.validated.index(state.best_step)]
    noise = np.std(np.diff(state.train_losses)) / np.sqrt(2) if len(state.train_losses) > 1 else 0.0
    return {
        "learned": bool(1 - test.value > 2 * test.stderr),
        "test_fall_percent": round(100 * (1 - test.value), 4),
        "test_fall_stderr_percent": round(100 * test.stderr, 4),
        "validation_loss_relative": round(best.value, 6),
        "validation_loss_last_relative": round(curve[-1].value, 6),
        "validation_loss_initializer": round(float(state.reference.mean()), 6),
        "best_step": state.best_step,
        "steps_run": state.step,
        "steps_planned": recipe.steps,
        "stopped_early": state.step < recipe.steps,
        "overflows": state.scale.overflows,
        "vector_norm": round(float(np.mean(result.tables.mean_norms(state.best))), 6),
        "loss_noise": round(float(noise), 6),
        "start": state.start,
        "nearest_words_start": result.nearest_start,
        "nearest_words": result.nearest,
    }


def summary(recipe: Train, result: Result) -> str:
    """Return the result of the training in one sentence: what was learned, or what to try if nothing was."""
    values, last = metrics(recipe, result), result.state.curve()[-1]
    fall, best = values["test_fall_percent"], f"best at step {values['best_step']} of {values['steps_run']}"
    measured = f"the test loss is {abs(fall):.1f}% (± {values['test_fall_stderr_percent']:.1f})"
    measured += f" {'below' if fall >= 0 else 'above'} the initializer token's, {best}"
    if values["learned"]:
        return f"learned: {measured}; start: {result.state.start}; nearest words: {result.nearest}"
    advice = "`concept.initialization: search`, more `train.steps`, or a higher `train.learning_rate`"
    if last.value > 1 + 2 * last.stderr:
        advice = "a lower `train.learning_rate`, `train.max_gradient_norm: 1.0`, or `train.geometry: sphere`"
    return f"not learned: {measured}; try {advice}"


def embedding_files(sections: SimpleNamespace, result: Result, source: Provenance) -> dict[str, bytes]:
    """Return the files of the best embedding and of the snapshots, by name.

    A base model in a local folder is recorded by the folder's name, without the path to it.
    """
    state, placeholder, base = result.state, sections.concept.placeholder_token, sections.model.base
    metadata = {
        "base_model": Path(base).name if Path(base).is_absolute() else base,
        "revision": sections.model.revision,
        "token": placeholder,
        "initializer": sections.concept.initializer_token,
        "steps": state.step,
        "step": state.best_step,
        "seed": sections.train.seed,
        "curated": source.data,
        "params": hashlib.sha256(json.dumps(source.params, sort_keys=True).encode()).hexdigest()[:16],
        "versions": json.dumps(source.versions, sort_keys=True),
        **model_spec(result.architecture, placeholder),
    }
    files = {"learned_embeds.safetensors": dump(tensors(result.tables, state.best, placeholder), metadata)}
    for step, vectors in zip(state.snapshot_steps, state.snapshots, strict=True):
        content = dump(tensors(result.tables, vectors, placeholder), metadata | {"step": step})
        files[f"snapshots/{snapshot_name(step)}"] = content
    return files


def loss_csv(recipe: Train, result: Result) -> str:
    """Return loss.csv: one row per step."""
    losses, rate = result.state.train_losses, learning_rates(recipe)
    columns = {
        "step": range(1, len(losses) + 1),
        "loss": losses,
        "learning_rate": [rate(step) for step in range(len(losses))],
        "vector_norm": result.state.norms,
    }
    return pd.DataFrame(columns).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def validation_csv(result: Result) -> str:
    """Return validation.csv: one row per validation."""
    state, curve = result.state, result.state.curve()
    columns = {
        "step": state.validated,
        "relative": [loss.value for loss in curve],
        "stderr": [loss.stderr for loss in curve],
        "loss": [float(row.mean()) for row in state.validation],
    }
    return pd.DataFrame(columns).to_csv(index=False, float_format="%.6g", lineterminator="\n")
