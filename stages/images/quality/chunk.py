"""A chunk of files => their rows and vectors: what one process does at a time."""

import signal
from pathlib import Path

import numpy as np

from stages.images.quality.features import LENGTH, WIDTH, describe, hashes, palettes, shades
from stages.images.quality.inspect import TooLongError, inspect, view
from stages.images.quality.row import Row

LONGEST_S = 60  # no honest picture takes a minute to decode
TOGETHER = 1 << 20  # pixels that are measured together: many small pictures, or a large one alone


def measured(chunk: list[tuple[str, str]], max_megapixels: float) -> tuple[list[Row], np.ndarray]:
    """(path, name)s => their rows, and their vectors [n, LENGTH]."""
    signal.signal(signal.SIGALRM, _stop)
    rows, seen, views, images = [], [], [], []
    for path, name in chunk:
        signal.alarm(LONGEST_S)
        row, image = inspect(Path(path), name, max_megapixels)
        signal.alarm(0)
        rows.append(row)
        if image:
            seen.append(row)
            images.append(image)
        if sum(image.width * image.height for image in images) >= TOGETHER:
            views += view(seen[len(views) :], images)
            images.clear()
    views += view(seen[len(views) :], images)
    vectors = np.zeros((len(rows), LENGTH), np.float32)
    if seen:
        pictures = [i for i, row in enumerate(rows) if not row.problem]
        vectors[pictures, :WIDTH] = describe(np.stack([view.look for view in views]))
        vectors[pictures, WIDTH:] = palettes(np.array([view.colours for view in views]))
        for row, text in zip(seen, hashes(shades([view.small for view in views])), strict=True):
            row.phash = text
    return rows, vectors


def _stop(*_: object) -> None:
    raise TooLongError
