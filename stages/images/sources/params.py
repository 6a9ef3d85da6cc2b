"""The `dataset` section."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

Slug = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]


class Kaggle(BaseModel):
    """A dataset on Kaggle; credentials come from the environment or Kaggle's own files, never from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Slug = Field(description="owner/slug, the end of the dataset's address.")
    version: PositiveInt | None = Field(None, description="Version to take; null: the newest (what came is recorded).")


class Dataset(BaseModel):
    """Where the pictures come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
