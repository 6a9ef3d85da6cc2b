"""The `dataset` section => pictures in class folders, and a receipt."""

from pathlib import Path

from stages.images.params import Dataset
from stages.images.sources import folder


def fetch(dataset: Dataset, raw: Path, scratch: Path) -> dict:
    """The source that `dataset` names => `raw/<Class>/<file>` => the receipt: a mapping without time or place.

    `scratch` keeps what has come so far between two runs. Raises UserError for all that a person can mend.
    """
    match dataset.source:
        case "starter":
            from stages.images.sources import world  # draws, and so imports much

            came = world.fetch(raw)
        case "folder":
            came = folder.fetch(Path(dataset.path), raw)
    return {"source": dataset.source, **came}
