"""The outputs of the training loop: checkpoints, trackers, preview images, progress bar; and its stop requests."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.common.files import png_bytes, write_atomic
from stages.common.trackers import Trackers
from stages.inversion.checkpoint import save_checkpoint
from stages.inversion.state import TrainState


@dataclass
class Callbacks:
    """What the loop calls. The main process writes into `folder`, at most one checkpoint per `interval` seconds.

    Preview images are kept beside the checkpoints, so that those before the resume point are still there.
    """

    folder: Path
    run: str
    interval: float
    trackers: Trackers
    progress: tqdm
    stop_requested: Callable[[], bool]
    is_main: bool
    _saved: float = field(default_factory=time.monotonic)
    _pending: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved >= self.interval

    def save(self, state: TrainState) -> None:
        if self.is_main:
            save_checkpoint(self.folder, state, self.run)
        self._saved = time.monotonic()

    def log(self, step: int, **values: float) -> None:
        """Queue scalars of a step."""
        self._pending.append((step, values))

    def flush(self) -> None:
        """Send the queued scalars to the trackers and the progress bar."""
        for step, values in self._pending:
            self.trackers.log(values, step)
            if "validation_loss" in values:
                self.progress.set_postfix_str(f"validation loss {values['validation_loss']:.3f}", refresh=False)
            self.progress.update(step - self.progress.n)
        self._pending.clear()

    def preview(self, pixels: np.ndarray, step: int) -> None:
        """Save and log a preview image (H W 3, uint8)."""
        image = Image.fromarray(pixels)
        write_atomic(self.folder / "progress" / f"step-{step:06d}.png", png_bytes(image))
        self.trackers.image("progress", image, step)
