"""All that the other stages made => report/index.html: one page that shows it."""

from pathlib import Path

from stages.common.files import write_atomic
from stages.common.params import load
from stages.common.stage import stage
from stages.reporting.inputs import Inputs
from stages.reporting.page import page

INPUTS = Inputs(
    receipt=Path("data/raw.json"),
    manifest=Path("data/manifest.csv"),
    curated=Path("data/curated"),
    embedding=Path("data/embedding/learned_embeds.safetensors"),
    train=Path("data/train.json"),
    loss=Path("data/loss.csv"),
    objective=Path("data/validation.csv"),
    renders=Path("data/renders"),
    metrics=Path("data/metrics.json"),
)
PAGE = Path("report/index.html")


@stage
def main() -> str:
    """Every out of the stages before => report/index.html."""
    params = load("dataset", "filter", "curate", "model", "concept", "train", "render", "evaluate", "report")
    sections = {name: section.model_dump(mode="json", by_alias=True) for name, section in vars(params).items()}
    write_atomic(PAGE, page(params.report, INPUTS, sections))
    return f"open {PAGE}"


if __name__ == "__main__":
    main()
