"""The `filter` section."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt


class Filter(BaseModel):
    """Which pictures of the class are usable. docs/data.md says how each property is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    class_: str = Field(alias="class", min_length=1, description="The class: a folder's name in data/raw.")
    min_side_px: PositiveInt = Field(96, description="Shorter side below this, in pixels, is too small.")
    max_megapixels: float = Field(100.0, gt=0, description="More than this many million pixels is refused undecoded.")
    max_aspect: float = Field(3.0, ge=1, description="Longer side over shorter side above this is too long.")
    min_sharpness: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Below this is blurred: the part of an edge's rise that lies within one pixel, 0 to 1, "
        "the longer side at 256 px.",
    )
    min_jpeg_quality: NonNegativeInt = Field(
        15, le=100, description="A JPEG file written at less than this quality, 1 to 100, is blocky."
    )
    max_blocking: float = Field(
        2.5,
        gt=0,
        description="Above this is blocky: what steps at the 8-pixel JPEG grid exceed those beside it by (1: twice).",
    )
    max_noise: float = Field(12.0, gt=0, description="Above this is noisy: standard deviation in grey levels of 255.")
    min_contrast: float = Field(
        16.0,
        ge=0,
        le=255,
        description="Below this is empty: grey levels between the darkest and lightest 1 % of pixels.",
    )
    max_frame_contact: float = Field(
        0.7,
        gt=0,
        le=4,
        description="Above this is cut off: how much of the frame the subject covers where the ground is flat, in "
        "sides (a bust, which leaves by the bottom, about 0.5; 4: never).",
    )
    max_watermark_shapes: NonNegativeInt = Field(
        16,
        description="More than this is marked: shapes of a letter's size and one colour all over a flat ground.",
    )
    duplicate_distance: NonNegativeInt = Field(
        4, le=64, description="Perceptual hashes (64 bits) that differ in at most this many bits are one picture."
    )
    clip: str | None = Field(
        None,
        description="A CLIP model (folder or hub id) that tells what is not of the class; null: colours tell it, "
        "which is fast and needs no model.",
    )
    max_class_distance: float = Field(
        5.0,
        gt=0,
        description="Above this is off-class: robust deviations (1.48 MAD) beyond the usual distance of a picture to "
        "the three nearest of its class.",
    )
