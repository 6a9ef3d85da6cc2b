"""The `evaluate` section: the encoders that compare images."""

from pydantic import BaseModel, Field


class Evaluate(BaseModel, frozen=True, extra="forbid"):
    """Encoders of images and prompts."""

    clip: str = Field("starter/clip", description="A CLIP model: folder, or repository id on the hub.")
    dino: str | None = Field(
        None, description="A DINO or DINOv2 model for a second image similarity; null: CLIP's only."
    )
