"""Show the images, the training curves, the renders and the metrics on one self-contained page."""

from pathlib import Path

from stages.common.files import write_atomic
from stages.common.params import load
from stages.common.stage import stage
from stages.images.selection.curated_page import thumbnail_uri
from stages.reporting.inputs import Inputs
from stages.reporting.page import render_page

INPUTS = Inputs(
    raw=Path("data/raw.json"),
    images=Path("data/raw"),
    manifest=Path("data/manifest.csv"),
    curated=Path("data/curated"),
    embedding=Path("data/embedding/learned_embeds.safetensors"),
    train=Path("data/train.json"),
    loss=Path("data/loss.csv"),
    validation=Path("data/validation.csv"),
    renders=Path("data/renders"),
    estimates=Path("data/estimates.csv"),
    metrics=Path("data/metrics.json"),
)
PAGE = Path("report/index.html")


@stage
def main() -> str:
    """Run the stage report: write report/index.html."""
    params = load("dataset", "filter", "curate", "model", "concept", "train", "render", "evaluate", "report")
    sections = {name: section.model_dump(mode="json", by_alias=True) for name, section in vars(params).items()}
    write_atomic(PAGE, render_page(params.report, INPUTS, sections, thumbnail_uri))
    return f"open {PAGE}"


if __name__ == "__main__":
    main()
