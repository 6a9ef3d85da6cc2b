"""Compare the renders with the held-out images and with the prompts."""

from pathlib import Path

import pandas as pd

from stages.common.files import write_atomic, write_json
from stages.common.params import load
from stages.common.publish import publish
from stages.common.read_outs import CuratedIndex, RendersIndex, read_image, read_json
from stages.common.stage import stage
from stages.models.device import configure_torch
from stages.scoring.encoders import open_encoders
from stages.scoring.metrics import ImageSets, score

RENDERS, CURATED = Path("data/renders"), Path("data/curated")
METRICS, SCORES = Path("data/metrics.json"), Path("data/scores.csv")


@stage
def main() -> str:
    """Write data/metrics.json and data/scores.csv."""
    params = load("evaluate", "runtime")
    clip, dino = open_encoders(params.evaluate, configure_torch(params.runtime))
    renders = read_json(RENDERS / "index.json", "render", RendersIndex)["cells"]
    curated = read_json(CURATED / "index.json", "curate", CuratedIndex)
    images = ImageSets(
        index=pd.DataFrame(renders),
        renders=[read_image(RENDERS / row["file"], "render") for row in renders],
        train=[read_image(CURATED / row["file"], "curate") for row in curated["train"]],
        holdout=[read_image(CURATED / row["file"], "curate") for row in curated["holdout"]],
    )
    scores, metrics = score(images, clip, dino)
    write_json(METRICS, metrics)
    publish(params.runtime.trackers, Path(".scratch"), RENDERS, metrics=metrics)
    write_atomic(SCORES, scores.to_csv(index=False, lineterminator="\n"))
    return (
        f"image similarity to the held-out images {metrics['image_similarity_word']:.3f} with the learned embedding, "
        f"{metrics['image_similarity_initializer']:.3f} with the initializer token, "
        f"{metrics['image_similarity_real']:.3f} for real images; {METRICS}, {SCORES}"
    )


if __name__ == "__main__":
    main()
