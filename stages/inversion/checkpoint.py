"""Checkpoints: the whole training state in a file of a few kilobytes, with a checksum."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stages.common.files import write_atomic
from stages.inversion.state import LossScale, TrainState

KEPT = 2
SCALARS = ("start", "micro_batch", "step", "best_step", "validated", "snapshot_steps")
TENSORS = ("initial", "vectors", "average", "first_moment", "second_moment", "best", "reference")
STACKS = ("validation", "snapshots")
FLOAT64 = ("train_losses", "norms")


def dump_checkpoint(state: TrainState, run: str) -> bytes:
    """Return the training state of run `run` as safetensors bytes with a checksum in the header."""
    tensors = {name: getattr(state, name) for name in TENSORS if getattr(state, name) is not None}
    tensors |= {name: torch.stack(getattr(state, name)) for name in STACKS if getattr(state, name)}
    tensors |= {name: torch.tensor(getattr(state, name), dtype=torch.float64) for name in FLOAT64}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    scalars = json.dumps({name: getattr(state, name) for name in SCALARS} | {"scale": asdict(state.scale)})
    return save(tensors, metadata={"scalars": scalars, "run": run, "sha256": _checksum(tensors, scalars + run)})


def load_checkpoint(path: Path, run: str) -> TrainState | None:
    """Return the training state in a checkpoint file, or None if the file is damaged, missing or of another run."""
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


@dataclass
class Checkpoints:
    """The checkpoints of a run in a folder, at most one per `interval` seconds; the last KEPT remain."""

    folder: Path
    run: str
    interval: float
    _saved: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Return whether `interval` seconds have passed since the last checkpoint was saved."""
        return time.monotonic() - self._saved >= self.interval

    def save(self, state: TrainState) -> None:
        """Write a checkpoint atomically, then delete the old ones."""
        write_atomic(self.folder / f"step-{state.step:08d}.safetensors", dump_checkpoint(state, self.run))
        for old in self._files()[KEPT:]:
            old.unlink()
        self._saved = time.monotonic()

    def latest(self, warn: Callable[[str], None]) -> TrainState | None:
        """Return the newest intact state of the run; delete a damaged or foreign file, with a warning."""
        for path in self._files():
            state = load_checkpoint(path, self.run)
            if state is not None:
                return state
            warn(f"checkpoint {path.name} is damaged or of another run; it was deleted, and the one before is used")
            path.unlink(missing_ok=True)
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)


def _checksum(tensors: dict[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].numpy())
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
