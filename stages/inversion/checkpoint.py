"""Checkpoints of a few kilobytes: all that the rest of the run depends on, whole or not at all.

Legend: S steps done, E evaluations, K cells of the objective, V vectors of the word, D width.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

KEPT = 2


@dataclass
class State:
    """Where a run stands: float32 arrays, float64 curves, in `cells` a row of losses (K) an evaluation, and in
    `reference` those of the initializer word, which all of them are compared with."""

    vectors: np.ndarray
    first_moment: np.ndarray
    second_moment: np.ndarray
    micro_batch: int
    scale: float = 1.0
    good_steps: int = 0
    overflows: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    cells: list[np.ndarray] = field(default_factory=list)
    reference: np.ndarray | None = None
    best: np.ndarray | None = None
    best_step: int = 0
    snapped: list[int] = field(default_factory=list)
    snapshots: list[np.ndarray] = field(default_factory=list)

    def record(self, cells: np.ndarray) -> None:
        """Losses of the objective's cells (K) at this step => the curve, and the best word so far."""
        if self.best is None or cells.mean() < min(row.mean() for row in self.cells):
            self.best, self.best_step = self.vectors.copy(), self.step
        self.evaluated.append(self.step)
        self.cells.append(cells)

    def snapshot(self) -> None:
        """The word at this step is kept beside the others, once."""
        if self.step not in self.snapped:
            self.snapped.append(self.step)
            self.snapshots.append(self.vectors.copy())


NUMBERS = ("micro_batch", "scale", "good_steps", "overflows", "step", "best_step")
LISTS = ("losses", "norms", "evaluated", "cells", "snapped", "snapshots")
ARRAYS = ("vectors", "first_moment", "second_moment", "best", "reference")


def dump(state: State, run: str) -> bytes:
    """A state and the run that it belongs to => safetensors bytes whose header has their checksum."""
    arrays = {name: np.ascontiguousarray(getattr(state, name)) for name in ARRAYS if getattr(state, name) is not None}
    arrays |= {name: np.array(getattr(state, name), dtype=np.float64) for name in ("losses", "norms")}
    arrays["evaluated"] = np.array(state.evaluated, dtype=np.int64)
    arrays["cells"] = np.array(state.cells, dtype=np.float32)
    arrays["snapped"] = np.array(state.snapped, dtype=np.int64)
    arrays["snapshots"] = np.array(state.snapshots, dtype=np.float32)
    numbers = json.dumps({name: getattr(state, name) for name in NUMBERS})
    return save(arrays, metadata={"numbers": numbers, "run": run, "sha256": _digest(arrays, numbers + run)})


def load(path: Path, run: str) -> State | None:
    """A file => its state, or None if it is not whole, not of this run, or not there any more."""
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            header = file.metadata() or {}
        if header["run"] != run or _digest(arrays, header["numbers"] + run) != header["sha256"]:
            return None
        lists = {name: arrays.pop(name) for name in LISTS}
        return State(
            **arrays,
            **json.loads(header["numbers"]),
            **{name: lists[name].tolist() for name in ("losses", "norms", "evaluated", "snapped")},
            **{name: list(lists[name]) for name in ("cells", "snapshots")},
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def save_in(folder: Path, state: State, run: str, write: Callable[[Path, bytes], None]) -> None:
    """A state => `folder`; older ones go only when the new one is whole. `write` writes a file whole or not at all."""
    write(folder / f"step-{state.step:08d}.safetensors", dump(state, run))
    for old in _files(folder)[KEPT:]:
        old.unlink()


def latest(folder: Path, run: str, say: Callable[[str], None]) -> State | None:
    """`folder` => the newest state of `run` in it that is whole; a damaged or foreign one is removed and named."""
    for path in _files(folder):
        state = load(path, run)
        if state is not None:
            return state
        say(f"checkpoint {path.name} is damaged or of another run and was dropped; the one before it is taken, if any")
        path.unlink(missing_ok=True)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def _digest(arrays: dict[str, np.ndarray], numbers: str) -> str:
    digest = hashlib.sha256(numbers.encode())
    for name in sorted(arrays):
        digest.update(f"\0{name}\0{arrays[name].dtype}\0{arrays[name].shape}\0".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
