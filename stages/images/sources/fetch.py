"""The `dataset` section => pictures in class folders, and a receipt."""

import hashlib
import shutil
from pathlib import Path

from stages import UserError
from stages.images.sources import folder
from stages.images.sources.archive import Limits, unpack
from stages.images.sources.layout import arrange
from stages.images.sources.params import Dataset
from stages.images.sources.transfer import discard


def fetch(dataset: Dataset, raw: Path, scratch: Path) -> dict:
    """The source that `dataset` names => `raw/<Class>/<file>` => the receipt: a mapping without time or place.

    `scratch` keeps what has come so far between two runs. Raises UserError for all that a person can mend.
    """
    match dataset.source:
        case "starter":
            from stages.images.sources import starter  # draws, and so imports much

            came = starter.fetch(raw)
        case "folder":
            came = folder.fetch(Path(dataset.path), raw)
        case "archive":
            came = _archive(Path(dataset.path), raw, scratch, dataset)
        case "kaggle":
            came = _kaggle(dataset, raw, scratch)
    return {"source": dataset.source, **came}


def _archive(path: Path, raw: Path, scratch: Path, dataset: Dataset) -> dict:
    if not path.is_file():
        raise UserError(
            f"dataset.path {path} is {'a folder' if path.is_dir() else 'not there'}; give a zip or tar file."
        )
    return {"name": path.name, **_open(path, raw, scratch, dataset, path.name)}


def _kaggle(dataset: Dataset, raw: Path, scratch: Path) -> dict:
    from stages.images.sources import kaggle  # its client is slow to import

    archive, about = kaggle.download(dataset.kaggle, scratch)
    try:
        laid_out = _open(archive, raw, scratch, dataset, dataset.kaggle.dataset)
    except UserError:
        discard(archive)  # damaged or refused: the next run gets it anew
        raise
    discard(archive)
    return {"name": dataset.kaggle.dataset, **about, **laid_out}


def _open(archive: Path, raw: Path, scratch: Path, dataset: Dataset, said: str) -> dict:
    """An archive => `raw/<Class>/<file>`; without class folders in it, the class has the archive's name."""
    limits = Limits(int(dataset.max_gib * 2**30), dataset.max_ratio, dataset.max_files)
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    tree = scratch / "unpacked"
    shutil.rmtree(tree, ignore_errors=True)  # of a run that was killed
    try:
        files = unpack(archive, tree, limits, said)
        name = said.rpartition("/")[2].partition(".")[0]
        return {"sha256": sha256, **arrange(files, raw, name, move=True)}
    finally:
        shutil.rmtree(tree, ignore_errors=True)
