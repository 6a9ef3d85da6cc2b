"""The outputs of the training loop: checkpoints, trackers, preview images, progress bar; and its stop requests."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.common.files import png_bytes, write_atomic
from stages.common.signals import StopSignal
from stages.common.trackers import Trackers
from stages.inversion.checkpoint import Checkpoints
from stages.inversion.state import TrainState


@dataclass
class Callbacks:
    """What the loop calls. The main process writes into the folder of its checkpoints.

    Preview images are kept beside the checkpoints, so that those before the resume point are still there.
    """

    checkpoints: Checkpoints
    trackers: Trackers
    progress: tqdm
    stop_requested: StopSignal
    is_main: bool
    _pending: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def save(self, state: TrainState) -> None:
        """Handle the loop's call for a checkpoint: the main process saves one."""
        if self.is_main:
            self.checkpoints.save(state)

    def save_if_due(self, state: TrainState) -> None:
        """Handle the loop's call before each step: save a checkpoint if the interval has passed."""
        if self.checkpoints.due():
            self.save(state)

    def end(self, state: TrainState) -> None:
        """End the loop's callbacks: save a last checkpoint; from now on a signal ends the process at once."""
        self.save(state)
        self.stop_requested.release()

    def log(self, step: int, **values: float) -> None:
        """Queue the scalars of a step of the loop."""
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
        """Save the loop's preview image (H W 3, uint8), and send it to the trackers."""
        image = Image.fromarray(pixels)
        write_atomic(self.checkpoints.folder / "progress" / f"step-{step:06d}.png", png_bytes(image))
        self.trackers.image("progress", image, step)
