"""The `curate` section."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class Curate(BaseModel):
    """Which usable pictures teach the word, and which are held out to measure it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: PositiveInt = Field(7, description="Pictures to train on.")
    holdout: PositiveInt = Field(3, description="Next pictures, kept for the fixed objective and for evaluation.")
    resolution: int = Field(
        512, ge=64, le=2048, multiple_of=8, description="Side of the squares that come out, in pixels."
    )
    fit: Literal["pad", "crop"] = Field(
        "pad", description="Make it square by padding with the border colour, or by cropping."
    )
    background: Literal["white", "border"] = Field(
        "border",
        description="What shows through transparency: white, or the picture's own border colour (never black).",
    )
    diversity: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How much being unlike those already chosen counts beside quality; 0: quality alone.",
    )
    include: list[str] = Field(
        default_factory=list, description="Pictures to take whatever their score: file name, hash prefix or glob."
    )
    exclude: list[str] = Field(
        default_factory=list, description="Pictures never to take: file name, hash prefix or glob."
    )
