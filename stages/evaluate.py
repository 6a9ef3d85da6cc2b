"""data/renders, data/curated => data/metrics.json, data/scores.csv: how near the renders are to what they should be."""

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from stages import UserError
from stages.common.files import write_atomic, write_json
from stages.common.params import load
from stages.common.stage import stage
from stages.models import device as machine
from stages.scoring.encoders import open_encoders
from stages.scoring.metrics import ImageSets, score

RENDERS, CURATED = Path("data/renders"), Path("data/curated")
METRICS, SCORES = Path("data/metrics.json"), Path("data/scores.csv")


@stage
def main() -> str:
    """data/renders, data/curated => a row of scores a render, and the figures of all of them."""
    params = load("evaluate", "runtime")
    device = machine.configure_torch(params.runtime)
    drawn, chosen = _index(RENDERS, "render"), _index(CURATED, "curate")
    images = ImageSets(
        pd.DataFrame(drawn["cells"]),
        _pictures(RENDERS, drawn["cells"]),
        _pictures(CURATED, chosen["train"]),
        _pictures(CURATED, chosen["holdout"]),
    )
    rows, figures = score(images, *open_encoders(params.evaluate, device))
    write_json(METRICS, figures)
    write_atomic(SCORES, rows.to_csv(index=False, lineterminator="\n"))
    near = "image similarity to the held-out pictures"
    return (
        f"{near} {figures['image_similarity_word']:.3f} with the word, {figures['image_similarity_initializer']:.3f} "
        f"with the initializer word, {figures['image_similarity_real']:.3f} for real pictures; {METRICS}, {SCORES}"
    )


def _index(folder: Path, maker: str) -> dict:
    try:
        return json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/index.json cannot be read ({error}); run `dvc repro {maker}`.") from None


def _pictures(folder: Path, rows: list[dict]) -> list[Image.Image]:
    pictures = []
    for row in rows:
        try:
            pictures.append(Image.open(folder / row["file"]).convert("RGB"))
        except OSError as error:
            raise UserError(f"{folder / row['file']} cannot be read ({error}); run `dvc repro`.") from None
    return pictures


if __name__ == "__main__":
    main()
