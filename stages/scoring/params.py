"""The `evaluate` section: the encoders that compare images."""

from pydantic import Field

from stages.common.schema import Line, Section


class Evaluate(Section):
    """Encoders of images and prompts."""

    clip: Line = Field("starter/clip", description="A CLIP model: folder, or repository id on the hub.")
    dino: Line | None = Field(
        None, description="A DINO or DINOv2 model for a second image similarity; null: CLIP's only."
    )
