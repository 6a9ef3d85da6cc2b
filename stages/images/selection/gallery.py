"""Read images of the other classes: a gallery in which the class must be recognized."""

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages import UserError
from stages.images.quality.decode import WHITE, UnreadableError, decode, flatten

MAX_CLASSES, MAX_MEGAPIXELS = 200, 100


def read_gallery(raw: Path, class_name: str, count: int, side: int) -> dict[str, list[Image.Image]]:
    """Read the gallery: the first `count` images of each class in `raw` but one, padded to squares of `side` px.

    Of more than MAX_CLASSES classes, that many are taken at equal distances in the order of their names. Files that
    cannot be decoded are skipped, and classes without images left out. Raises UserError if `raw` does not exist.
    """
    if not raw.is_dir():
        raise UserError(f"{raw} does not exist; run `dvc repro download`.")
    folders = sorted(path for path in raw.glob("[!.]*") if path.is_dir() and path.name != class_name) if count else []
    chosen = np.unique(np.linspace(0, len(folders) - 1, min(len(folders), MAX_CLASSES)).round().astype(int))
    gallery = {folders[i].name: list(islice(_squares(folders[i], side), count)) for i in chosen}
    return {name: images for name, images in gallery.items() if images}


def _squares(folder: Path, side: int) -> Iterator[Image.Image]:
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with contextlib.suppress(UnreadableError):
            image = flatten(decode(path.read_bytes(), MAX_MEGAPIXELS)[0], WHITE)
            yield ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, WHITE)
