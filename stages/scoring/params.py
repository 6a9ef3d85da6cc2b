"""The `evaluate` section: the encoders that compare images."""

from pydantic import BaseModel, ConfigDict, Field


class Evaluate(BaseModel):
    """Encoders of images and prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: str = Field("starter/clip", description="A CLIP model: folder, or repository id on the hub.")
    dino: str | None = Field(
        None, description="A DINO or DINOv2 model for a second image similarity; null: CLIP's only."
    )
