"""The `evaluate` section: what the renders are compared with, and by which encoders."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from stages.common.params import Line, Section


class Evaluate(Section):
    """Encoders of images and prompts, and images of other classes."""

    clip: Line = Field("starter/clip", description="A CLIP model: folder, or repository id on the hub.")
    dino: Line | None = Field(
        None, description="A DINO or DINOv2 model for a second image similarity; null: CLIP's only."
    )
    gallery: NonNegativeInt = Field(
        4,
        le=100,
        description="Images of every other class in data/raw, among which the class must be recognized in the renders; "
        "0: none.",
    )
    choose: Literal["validation", "tradeoff"] = Field(
        "validation",
        description="Which embedding is recommended for use: validation: the one that train saved, with the lowest "
        "validation loss; tradeoff: that one, or the snapshot of `render.snapshots`, with the best tradeoff of "
        "likeness and prompt following (docs/evaluation.md).",
    )
