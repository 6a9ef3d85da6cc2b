"""Checkpoints: the whole training state in a file of a few kilobytes, with a checksum."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stages.common.files import write_atomic
from stages.inversion.state import LossScale, TrainState

KEPT = 2


SCALARS = ("micro_batch", "step", "best_step", "validated", "snapshot_steps")
TENSORS = ("vectors", "first_moment", "second_moment", "best", "reference")
STACKS = ("validation", "snapshots")
FLOAT64 = ("train_losses", "norms")


def dump(state: TrainState, run: str) -> bytes:
    """Return the state of run `run` as safetensors bytes with a checksum in the header."""
    tensors = {name: getattr(state, name) for name in TENSORS if getattr(state, name) is not None}
    tensors |= {name: torch.stack(getattr(state, name)) for name in STACKS if getattr(state, name)}
    tensors |= {name: torch.tensor(getattr(state, name), dtype=torch.float64) for name in FLOAT64}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    scalars = json.dumps({name: getattr(state, name) for name in SCALARS} | {"scale": asdict(state.scale)})
    return save(tensors, metadata={"scalars": scalars, "run": run, "sha256": _checksum(tensors, scalars + run)})


def load(path: Path, run: str) -> TrainState | None:
    """Return the state in a file, or None if the file is damaged, missing or of another run."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            header = file.metadata() or {}
        if header["run"] != run or _checksum(tensors, header["scalars"] + run) != header["sha256"]:
            return None
        scalars = json.loads(header["scalars"])
        stacks = {name: list(tensors.pop(name, ())) for name in STACKS}
        floats = {name: tensors.pop(name).tolist() for name in FLOAT64}
        return TrainState(**tensors, **stacks, **floats, **scalars | {"scale": LossScale(**scalars["scale"])})
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def save_checkpoint(folder: Path, state: TrainState, run: str) -> None:
    """Write a checkpoint atomically, then delete all but the last KEPT."""
    write_atomic(folder / f"step-{state.step:08d}.safetensors", dump(state, run))
    for old in _files(folder)[KEPT:]:
        old.unlink()


def latest(folder: Path, run: str, warn: Callable[[str], None]) -> TrainState | None:
    """Return the newest intact state of `run`; delete a damaged or foreign file, with a warning."""
    for path in _files(folder):
        state = load(path, run)
        if state is not None:
            return state
        warn(f"checkpoint {path.name} is damaged or belongs to another run; it was deleted, and the one before is used")
        path.unlink(missing_ok=True)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def _checksum(tensors: dict[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].numpy())
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
