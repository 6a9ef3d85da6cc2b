"""The training state: everything that the rest of a run depends on.

Legend: V vectors of the embedding, D width, K samples of the validation batch.
"""

from dataclasses import dataclass, field

import torch

from stages.inversion.params import Train
from stages.inversion.validation import RelativeLoss, relative_loss

INITIAL_SCALE = 2.0**16


@dataclass
class LossScale:
    """The factor of the loss in half precision, a power of two, and its history."""

    value: float = 1.0
    good_steps: int = 0
    overflows: int = 0


@dataclass
class TrainState:
    """Everything that the rest of a run depends on. Tensors are float32 on the CPU.

    The start and its name; `vectors`, their moving average and AdamW's moments (V D); the training loss and vector norm
    of every step; the validation losses (K) at the steps `validated` and, as `reference`, with the initializer token;
    the best embedding so far; snapshots.
    """

    start: str
    initial: torch.Tensor

    vectors: torch.Tensor
    average: torch.Tensor
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    reference: torch.Tensor
    micro_batch: int = 0
    scale: LossScale = field(default_factory=LossScale)
    step: int = 0
    train_losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    validation: list[torch.Tensor] = field(default_factory=list)
    best: torch.Tensor | None = None
    best_step: int = 0
    snapshot_steps: list[int] = field(default_factory=list)
    snapshots: list[torch.Tensor] = field(default_factory=list)

    def record_validation(self, losses: torch.Tensor) -> None:
        """Append the validation losses (K) at this step, and keep the embedding if it is the best so far."""
        if self.best is None or losses.mean() < min(row.mean() for row in self.validation):
            self.best, self.best_step = self.average.clone(), self.step
        self.validated.append(self.step)
        self.validation.append(losses)

    def record_snapshot(self) -> None:
        """Add a snapshot of the embedding at this step to the state."""
        if self.step not in self.snapshot_steps:
            self.snapshot_steps.append(self.step)
            self.snapshots.append(self.average.clone())

    def curve(self) -> list[RelativeLoss]:
        """Return the state's validation losses so far, relative to the initializer token's."""
        return [relative_loss(row, self.reference) for row in self.validation]


def initial_state(
    recipe: Train, start: str, vectors: torch.Tensor, reference: torch.Tensor, micro_batch: int = 0
) -> TrainState:
    """Return the training state before the first step, from the embedding `vectors` (V D) that `start` names."""
    tensors = [*(vectors.clone() for _ in range(3)), *(torch.zeros_like(vectors) for _ in range(2))]
    scale = LossScale(INITIAL_SCALE if recipe.mixed_precision == "fp16" else 1.0)
    return TrainState(start, *tensors, reference=reference, scale=scale, micro_batch=micro_batch)
