"""Zip archives in which each image is in dataset/ and again in dataset/dataset/."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from stages.common.files import png_bytes
from starter.world.dataset import build


def packed(images: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in images.items():
            archive.writestr(f"dataset/{name}", content)
            archive.writestr(f"dataset/dataset/{name}", content)
    return file.getvalue()


def archive(classes: int, each: int, seed: int = 0) -> bytes:
    """Return a zip of small random images, `each` in every class."""
    noise = np.random.default_rng(seed).integers(0, 256, (classes, each, 12, 12, 3), np.uint8)
    indices = np.ndindex(classes, each)
    return packed({f"Class{c:03d}/{i}.png": png_bytes(Image.fromarray(noise[c, i])) for c, i in indices})


def drawn(names: list[str], folder: Path) -> bytes:
    """Draw classes of the built-in world in `folder` (52 files each, some of them broken); return a zip of them."""
    for name in names:
        build(folder, name)
    return packed({f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*/*"))})
