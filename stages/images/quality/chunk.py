"""A chunk of files => their rows and vectors: what one process does at a time."""

import signal
from pathlib import Path

import numpy as np

from stages.images.quality.measurements import TooLongError, inspect, view
from stages.images.quality.row import LENGTH, Measurements

LONGEST_S = 60  # no honest picture takes a minute to decode
TOGETHER = 1 << 20  # pixels that are measured together: many small pictures, or a large one alone


def measured(chunk: list[tuple[str, str]], max_megapixels: float) -> tuple[list[Measurements], np.ndarray]:
    """(path, name)s => their rows, and their vectors [n, LENGTH], of zeros where there is no picture."""
    signal.signal(signal.SIGALRM, _stop)
    rows, vectors = [], np.zeros((len(chunk), LENGTH), np.float32)
    group, images, pixels = [], [], 0
    for i, (path, name) in enumerate(chunk):
        signal.alarm(LONGEST_S)
        row, image = inspect(Path(path), name, max_megapixels)
        signal.alarm(0)
        rows.append(row)
        if image:
            group.append(i)
            images.append(image)
            pixels += image.width * image.height
        if images and (pixels >= TOGETHER or i == len(chunk) - 1):
            vectors[group] = view([rows[k] for k in group], images)
            group, images, pixels = [], [], 0
    return rows, vectors


def _stop(*_: object) -> None:
    raise TooLongError
