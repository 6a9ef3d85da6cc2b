"""The `dataset`, `filter` and `curate` sections: where pictures come from, which are usable, which are chosen."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, StringConstraints, model_validator

Slug = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kaggle(_Section):
    """A dataset on Kaggle; credentials come from the environment or Kaggle's own files, never from here."""

    dataset: Slug = Field(description="owner/slug, the end of the dataset's address.")
    version: PositiveInt | None = Field(None, description="Version to take; null: the newest (what came is recorded).")


class Dataset(_Section):
    """Where the pictures come from."""

    source: Literal["starter", "folder", "archive", "kaggle"] = Field(
        "starter",
        description="starter: the built-in world; folder or archive: your own `path`; kaggle: `kaggle.dataset`.",
    )
    path: str | None = Field(
        None, description="For folder: class folders, or one flat folder of pictures; for archive: a zip or tar file."
    )
    kaggle: Kaggle | None = Field(None, description="For source kaggle.")
    max_gib: float = Field(20.0, gt=0, description="Most that an archive may unpack to, in GiB.")
    max_ratio: float = Field(
        100.0,
        gt=1,
        description="Most that an archive may unpack to, as a multiple of its own size (pictures: about 1).",
    )
    max_files: PositiveInt = Field(1_000_000, description="Most files that an archive may hold.")

    @model_validator(mode="after")
    def _complete(self) -> "Dataset":
        if self.source in ("folder", "archive") and not self.path:
            raise ValueError(f"source {self.source} needs `path`")
        if self.source == "kaggle" and self.kaggle is None:
            raise ValueError("source kaggle needs `kaggle: {dataset: owner/slug}`")
        return self


class Filter(_Section):
    """Which pictures of the class are usable. docs/data.md says how each property is measured."""

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
    max_touching: float = Field(
        0.7,
        gt=0,
        le=4,
        description="Above this is cut off: how much of the frame the subject covers where the ground is flat, in "
        "sides (a bust, which leaves by the bottom, about 0.5; 4: never).",
    )
    max_marks: NonNegativeInt = Field(
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

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Curate(_Section):
    """Which usable pictures teach the word, and which are held out to measure it."""

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
