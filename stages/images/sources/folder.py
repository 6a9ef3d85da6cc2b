"""`source: folder`: a person's own pictures."""

from pathlib import Path

from stages import UserError
from stages.images.sources.layout import arrange, walk


def fetch(path: Path, raw: Path) -> dict:
    """A folder of class folders, or of pictures => `raw/<Class>/<file>` and what came of it (see `layout.arrange`).

    Raises UserError where there is no such folder, or no picture in it.
    """
    if not path.exists():
        raise UserError(f"dataset.path {path} is not there; give the folder that holds your pictures.")
    if not path.is_dir():
        raise UserError(f"dataset.path {path} is a file; give a folder, or set dataset.source to archive.")
    name = path.resolve().name
    return {"name": name, **arrange(walk(path), raw, name, move=False)}
