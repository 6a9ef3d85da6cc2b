"""What the training loop sees of the world: a clock, a folder for what it saves, trackers, a bar, a wish to stop."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.inversion import checkpoint
from stages.inversion.checkpoint import State

Write = Callable[[Path, bytes], None]


@dataclass(frozen=True)
class Surroundings:
    """What the loop is given of the world around it, so that it touches no clock, signal or path of its own.

    `due` says whether it is time for a checkpoint, `interrupted` whether the run was asked to stop, `save` keeps a
    state, `log` takes (values, step), `picture` takes (H W 3 bytes, step), `bar` takes (step, text).
    """

    due: Callable[[], bool]
    interrupted: Callable[[], bool]
    save: Callable[[State], None]
    log: Callable[[dict[str, float], int], None]
    picture: Callable[[np.ndarray, int], None]
    bar: Callable[[int, str], None]


def surroundings(
    folder: Path | None,
    run: str,
    *,
    seconds: float,
    write: Write,
    stop: Callable[[], bool],
    log: Callable[[dict[str, float], int], None],
    show: Callable[[str, Image.Image, int], None],
    bar: tqdm,
) -> Surroundings:
    """A folder for checkpoints of `run` at least `seconds` apart, trackers, a bar => what the loop is given.

    Progress pictures are kept beside the checkpoints: whatever step a run goes on from, those of before are there.
    A process without a folder saves nothing.
    """
    saved = time.monotonic()

    def due() -> bool:
        return time.monotonic() - saved >= seconds

    def save(state: State) -> None:
        nonlocal saved
        if folder is not None:
            checkpoint.save_in(folder, state, run, write)
        saved = time.monotonic()

    def picture(pixels: np.ndarray, step: int) -> None:
        image = Image.fromarray(pixels)
        if folder is not None:
            write(folder / "progress" / f"step-{step:06d}.png", _png(image))
        show("progress", image, step)

    def move(step: int, text: str) -> None:
        bar.set_postfix_str(text, refresh=False)
        bar.update(step - bar.n)

    return Surroundings(due, stop, save, log, picture, move)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
