"""The `filter` section."""

from pydantic import Field, NonNegativeInt, PositiveInt

from stages.common.params import Line, Section


class Filter(Section, populate_by_name=True):
    """Which images of the class are usable. docs/data.md describes how each property is measured."""

    class_: Line = Field(alias="class", description="The class: the name of a folder in data/raw.")
    min_side_px: PositiveInt = Field(96, le=10**5, description="Smallest length of the shorter side, in pixels.")
    max_megapixels: float = Field(100.0, gt=0, le=1000, description="Largest image that is decoded, in million pixels.")
    max_aspect: float = Field(3.0, ge=1, le=10**5, description="Largest ratio of the longer side to the shorter side.")
    min_sharpness: float = Field(0.25, ge=0, le=1, description="Lowest share of an edge within one pixel, at 256 px.")
    min_jpeg_quality: NonNegativeInt = Field(15, le=100, description="Lowest quality of a JPEG file, 0 to 100.")
    max_blocking: float = Field(2.5, gt=0, le=1000, description="Most extra height of steps on JPEG's grid; 1: twice.")
    max_noise: float = Field(10.0, gt=0, le=255, description="Most noise in flat parts: its deviation in grey levels.")
    min_contrast: float = Field(16.0, ge=0, le=255, description="Least grey levels from darkest to lightest 1 %.")
    max_frame_contact: float = Field(0.7, gt=0, le=4, description="Most that a subject may cover of the sides, 0 to 4.")
    max_watermark_shapes: NonNegativeInt = Field(16, le=10**6, description="Most letters of one colour on a flat area.")
    duplicate_distance: NonNegativeInt = Field(4, le=64, description="Most bits in which hashes of duplicates differ.")
    clip: Line | None = Field(None, description="CLIP model (folder or hub id) for off-class images; null: colours.")
    max_class_distance: float = Field(5.0, gt=0, le=10**6, description="Largest distance to the class, in deviations.")
