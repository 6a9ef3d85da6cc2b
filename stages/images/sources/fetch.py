"""Fetch the images of the dataset that the params name."""

import shutil
from collections import Counter
from pathlib import Path

from stages import UserError
from stages.common.hashing import sha256
from stages.images.sources.archive import unpack
from stages.images.sources.layout import arrange, walk
from stages.images.sources.params import Dataset


def fetch(dataset: Dataset, raw: Path, scratch: Path) -> dict:
    """Put the images in `raw/<Class>/` and return the receipt; `scratch` keeps a download that was cut."""
    path = Path(dataset.path or "")
    match dataset.source:
        case "starter":
            from starter.world.dataset import build, build_others  # imports the code that draws

            build(raw, "Emberwing")
            build_others(raw)
            files = [path for _, path in walk(raw)]
            classes, size = Counter(path.parent.name for path in files), sum(path.stat().st_size for path in files)
            counts = {"classes": dict(classes), "files": len(files), "bytes": size, "left_out": {}}
            receipt = {"name": "Emberwing", "licence": "as this repository", **counts}
        case "folder" if path.is_dir():
            receipt = {"name": path.resolve().name, **arrange(walk(path), raw, path.resolve().name, move=False)}
        case "archive" if path.is_file():
            receipt = {"name": path.name, **_unpack(path, path.name, raw, scratch, dataset)}
        case "kaggle":
            from stages.images.sources import kaggle  # signs in

            archive, info = kaggle.download(dataset.kaggle, scratch / "kaggle", dataset.max_gib * 2**30)
            try:
                receipt = {**info, **_unpack(archive, info["name"], raw, scratch, dataset)}
            except UserError:
                archive.unlink()  # so that the next run downloads it again
                raise
            shutil.rmtree(archive.parent)
        case _:
            raise UserError(f"dataset.path {path} is not there, or no {dataset.source}; give a folder, a zip or a tar.")
    return {"source": dataset.source, **receipt}


def _unpack(archive: Path, name: str, raw: Path, scratch: Path, dataset: Dataset) -> dict:
    """Fetch images from an archive to `raw/<Class>/<file>`; without a folder their class is the archive's name."""
    folder = scratch / "unpacked"
    try:
        files = unpack(archive, folder, name, dataset)
        return {"sha256": sha256(archive), **arrange(files, raw, Path(name).name.partition(".")[0], move=True)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
