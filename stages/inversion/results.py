"""A finished run => figures, curves, and one sentence that says whether the word was learnt."""

import hashlib
import json
from pathlib import Path
from typing import Protocol

import numpy as np

from stages.inversion import embedding_file
from stages.inversion.checkpoint import State
from stages.inversion.optimizer import learning_rates
from stages.inversion.params import Train
from stages.inversion.validation import curve
from stages.models.params import Concept, Model


class Recipe(Protocol):
    """The sections that a word is made by."""

    train: Train
    model: Model
    concept: Concept


class Origin(Protocol):
    """Where a word comes from: sections by name, versions by library, the fingerprint of the pictures."""

    params: dict[str, dict]
    versions: dict[str, str]
    data: str


def metrics(recipe: Train, state: State) -> dict[str, float | int | bool]:
    """=> flat figures; nothing in them varies from run to run.

    Learnt is a fall of more than twice its standard error.
    """
    values = curve(state.cells, state.reference)
    best = values[state.evaluated.index(state.best_step)]
    raw = np.array(state.losses)
    return {
        "learnt": bool(1 - best.relative > 2 * best.stderr),
        "objective_relative": round(best.relative, 6),
        "fall_percent": round(100 * (1 - best.relative), 4),
        "fall_stderr_percent": round(100 * best.stderr, 4),
        "objective_initializer": round(float(state.reference.mean()), 6),
        "objective_last_relative": round(values[-1].relative, 6),
        "best_step": state.best_step,
        "steps_run": state.step,
        "steps_planned": recipe.steps,
        "stopped_early": state.step < recipe.steps,
        "overflows": state.overflows,
        "vector_norm": round(float(np.linalg.norm(state.best, axis=1).mean()), 6),
        "loss_noise": round(float(np.std(np.diff(raw)) / np.sqrt(2)), 6) if len(raw) > 1 else 0.0,
    }


def sentence(recipe: Train, state: State) -> str:
    """=> what was learnt, in one sentence; or that nothing was, and what to try."""
    said = metrics(recipe, state)
    fall, error = said["fall_percent"], said["fall_stderr_percent"]
    when = f"best at step {said['best_step']} of {said['steps_run']}"
    if said["learnt"]:
        return f"learnt: the objective fell by {fall:.1f}% ± {error:.1f}, {when}"
    advice = "more `train.steps`, a higher `train.learning_rate`, or an initializer_token that is nearer"
    if values_rise(state):
        advice = "a lower `train.learning_rate`, `train.max_gradient_norm: 1.0`, or `train.max_vector_norm: 1.5`"
    return f"not learnt: the objective fell by {fall:.1f}% ± {error:.1f}, {when}; try {advice}"


def values_rise(state: State) -> bool:
    """Whether the last word was clearly worse than the initializer word: driven too far, not too little."""
    last = curve(state.cells, state.reference)[-1]
    return last.relative > 1 + 2 * last.stderr


def word_files(params: Recipe, state: State, origin: Origin) -> dict[str, bytes]:
    """=> file name => bytes: the best word and its snapshots, each saying where it comes from.

    A base model in a folder somewhere on this machine is named without the way to it.
    """
    base, placeholder = params.model.base, params.concept.placeholder_token
    header = {
        "base_model": Path(base).name if Path(base).is_absolute() else base,
        "revision": params.model.revision,
        "token": placeholder,
        "initializer": params.concept.initializer_token,
        "steps": state.step,
        "step": state.best_step,
        "seed": params.train.seed,
        "curated": origin.data,
        "params": hashlib.sha256(json.dumps(origin.params, sort_keys=True).encode()).hexdigest()[:16],
        "versions": json.dumps(origin.versions, sort_keys=True),
    }
    named = {"learned_embeds.safetensors": embedding_file.dump(state.best, placeholder, header)}
    for step, vectors in zip(state.snapped, state.snapshots, strict=True):
        name = f"snapshots/{embedding_file.snapshot_name(step)}"
        named[name] = embedding_file.dump(vectors, placeholder, header | {"step": step})
    return named


def loss_rows(recipe: Train, state: State) -> str:
    """=> loss.csv: a row a step."""
    rate = learning_rates(recipe)
    rows = ["step,loss,learning_rate,vector_norm"]
    for i, (loss, norm) in enumerate(zip(state.losses, state.norms, strict=True)):
        rows.append(f"{i + 1},{loss:.6g},{rate(i):.6g},{norm:.6g}")
    return "\n".join(rows) + "\n"


def objective_rows(state: State) -> str:
    """=> validation.csv: a row an evaluation."""
    rows = ["step,relative,stderr,loss"]
    for step, value, cells in zip(state.evaluated, curve(state.cells, state.reference), state.cells, strict=True):
        rows.append(f"{step},{value.relative:.6f},{value.stderr:.6f},{cells.mean():.6g}")
    return "\n".join(rows) + "\n"
