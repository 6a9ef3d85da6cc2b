"""The `curate` section."""

from typing import Literal

from pydantic import Field, PositiveInt

from stages.common.params import Section, Text


class Curate(Section):
    """Which usable images are trained on, and which are held out for validation."""

    count: PositiveInt = Field(7, le=10_000, description="Number of training images.")
    holdout: PositiveInt = Field(3, le=10_000, description="Number of held-out images, for validation and evaluation.")
    resolution: int = Field(512, ge=64, le=2048, multiple_of=8, description="Side of the square images, in pixels.")
    fit: Literal["pad", "crop"] = Field("pad", description="Make images square by padding or by cropping.")
    background: Literal["white", "border"] = Field("border", description="Colour of padding: white, or the border's.")
    diversity: float = Field(0.5, ge=0, le=1, description="Weight of variety in the selection; 0: quality alone.")
    include: list[Text] = Field([], description="Images to choose always: file name, start of a hash, or glob.")
    exclude: list[Text] = Field([], description="Images never to choose: file name, start of a hash, or glob.")
