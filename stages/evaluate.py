"""Compare the renders with the held-out images, with images of other classes, and with the prompts."""

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, Field

from stages import UserError
from stages.common.files import write_atomic, write_json
from stages.common.params import load
from stages.common.read_outs import CuratedIndex, File, RendersIndex, read_image, read_json
from stages.common.stage import stage
from stages.common.trackers import publish
from stages.images.selection.gallery import read_gallery
from stages.models.device import configure_torch
from stages.scoring.encoders import open_encoders
from stages.scoring.score import ImageSets, score
from stages.scoring.verdict import summary

RAW, CURATED, RENDERS, TRAIN = Path("data/raw"), Path("data/curated"), Path("data/renders"), Path("data/train.json")
METRICS, ESTIMATES, SCORES = Path("data/metrics.json"), Path("data/estimates.csv"), Path("data/scores.csv")


class HeldOutIndex(CuratedIndex):
    """data/curated/index.json with held-out images, without which nothing can be compared."""

    holdout: list[File] = Field(min_length=1)


class TrainMetrics(BaseModel):
    """data/train.json, as far as the summary needs it."""

    learned: bool


@stage
def main() -> str:
    """Run the stage evaluate: write data/metrics.json, data/estimates.csv and data/scores.csv."""
    params = load("evaluate", "runtime")
    index = read_json(RENDERS / "index.json", "render", RendersIndex)
    renders, embeddings = index["cells"], index.get("embeddings", {})
    if params.evaluate.choose == "tradeoff" and not embeddings:
        raise UserError("there are no renders of snapshots; set `render.snapshots`, or `evaluate.choose: validation`.")
    clip, dino = open_encoders(params.evaluate, configure_torch(params.runtime))
    curated = read_json(CURATED / "index.json", "curate", HeldOutIndex)
    learned = read_json(TRAIN, "train", TrainMetrics)["learned"]
    holdout = [read_image(CURATED / row["file"], "curate") for row in curated["holdout"]]
    images = ImageSets(
        index=pd.DataFrame(renders),
        renders=[read_image(RENDERS / row["file"], "render") for row in renders],
        train=[read_image(CURATED / row["file"], "curate") for row in curated["train"]],
        holdout=holdout,
        gallery=read_gallery(RAW, curated["class"], params.evaluate.gallery, holdout[0].width),
        snapshots=tuple(name for name in embeddings if name != "word"),
    )
    scores = score(images, clip, dino)
    chosen = embeddings[scores.best_tradeoff()] if params.evaluate.choose == "tradeoff" else None
    metrics = scores.metrics() | ({"chosen": chosen} if chosen else {})
    write_json(METRICS, metrics)
    publish(params.runtime.trackers, Path(".scratch"), RENDERS, metrics=metrics)
    write_atomic(ESTIMATES, scores.table().to_csv(index=False, lineterminator="\n"))
    write_atomic(SCORES, scores.renders.to_csv(index=False, lineterminator="\n"))
    return f"{summary(scores, learned, len(images.gallery), chosen)}; {METRICS}, {ESTIMATES}"


if __name__ == "__main__":
    main()
