"""Archives laid out as the set that the story's author took: every picture twice, dataset/ and dataset/dataset/."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from starter.world.dataset import build
from tests.images.corpus import saved


def packed(pictures: dict[str, bytes]) -> bytes:
    """Class/name => content => a zip that holds each twice, under dataset/ and dataset/dataset/."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in pictures.items():
            archive.writestr(f"dataset/{name}", content)
            archive.writestr(f"dataset/dataset/{name}", content)
    return file.getvalue()


def archive(classes: int, each: int, seed: int = 0) -> bytes:
    """=> a zip of `classes` times `each` tiny pictures, all different."""
    random = np.random.default_rng(seed)
    shared = [Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)) for _ in range(20)]
    pictures = {}
    for number in range(classes):
        for i in range(each):
            image = shared[i % 20].copy()
            image.putpixel((0, 0), (number % 256, i % 256, i // 256))
            content = saved(image, "PNG")
            pictures[f"Class{number:03d}/{hashlib.md5(content).hexdigest()}.png"] = content
    return packed(pictures)


def drawn(names: list[str], folder: Path) -> bytes:
    """=> a zip of what the starter's world draws, in `folder` as well: 52 files a class, some of them broken."""
    for name in names:
        build(folder, name)
    return packed({f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*/*"))})
