"""The training state, and checkpoints of a few kilobytes that hold all of it.

Legend: V vectors of the embedding, D width, E validations, K samples of the validation batch.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stages.common.files import write_atomic
from stages.inversion.validation import RelativeLoss, relative_loss

KEPT = 2


@dataclass
class LossScale:
    """The factor of the loss in half precision, a power of two, and its history."""

    value: float = 1.0
    good_steps: int = 0
    overflows: int = 0


@dataclass
class TrainState:
    """Everything that the rest of a run depends on. Tensors are float32 on the CPU.

    `vectors` and AdamW's moments (V D); the training loss and vector norm of every step; the validation losses (K) at
    the steps `validated` and, as `reference`, with the initializer token; the best embedding so far; snapshots.
    """

    vectors: torch.Tensor
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    micro_batch: int
    scale: LossScale = field(default_factory=LossScale)
    step: int = 0
    train_losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    validation: list[torch.Tensor] = field(default_factory=list)
    reference: torch.Tensor | None = None
    best: torch.Tensor | None = None
    best_step: int = 0
    snapshot_steps: list[int] = field(default_factory=list)
    snapshots: list[torch.Tensor] = field(default_factory=list)

    def record_validation(self, losses: torch.Tensor) -> None:
        """Append the validation losses (K) at this step, and keep the embedding if it is the best so far."""
        if self.best is None or losses.mean() < min(row.mean() for row in self.validation):
            self.best, self.best_step = self.vectors.clone(), self.step
        self.validated.append(self.step)
        self.validation.append(losses)

    def record_snapshot(self) -> None:
        """Keep a copy of the embedding at this step."""
        if self.step not in self.snapshot_steps:
            self.snapshot_steps.append(self.step)
            self.snapshots.append(self.vectors.clone())

    def curve(self) -> list[RelativeLoss]:
        """Return the validation loss relative to the initializer token at every validation."""
        return [relative_loss(row, self.reference) for row in self.validation]


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
