"""The `evaluate` section: with which eyes the renders are looked at."""

from pydantic import BaseModel, ConfigDict, Field


class Evaluate(BaseModel):
    """Encoders that compare pictures with pictures and with words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: str = Field("starter/clip", description="A CLIP model: folder, or repository id on the hub.")
    dino: str | None = Field(None, description="A DINO or DINOv2 model for image similarity beside CLIP's; null: none.")
