"""The `dataset` section."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from stages.common.params import Line, Section


class Kaggle(Section):
    """A dataset on Kaggle; credentials come from the environment or Kaggle's own files, never from here."""

    dataset: Line = Field(pattern=r"^[\w-]+/[\w.-]+$", description="owner/slug, the end of the dataset's address.")
    version: PositiveInt | None = Field(None, lt=2**31, description="Version; null: the newest (see the receipt).")


class Dataset(Section):
    """Where the images come from."""

    source: Literal["starter", "folder", "archive", "kaggle"] = Field(
        "starter", description="The built-in world, your own folder or archive at `path`, or `kaggle.dataset`."
    )
    path: Line | None = Field(None, description="A folder of class folders, a folder of images, or a zip or tar file.")
    kaggle: Kaggle | None = Field(None, description="For source kaggle.")
    max_gib: float = Field(20.0, gt=0, le=2**20, description="Most that an archive may unpack to, in GiB.")
    max_ratio: float = Field(100.0, gt=1, le=10**6, description="Most that an archive may grow by, in times its size.")
    max_files: PositiveInt = Field(1_000_000, le=10**8, description="Most files that an archive may hold.")

    @model_validator(mode="after")
    def _complete(self) -> "Dataset":
        if self.source in ("folder", "archive") and not self.path:
            raise ValueError(f"source {self.source} needs `path`")
        if self.source == "kaggle" and self.kaggle is None:
            raise ValueError("source kaggle needs `kaggle: {dataset: owner/slug}`")
        return self
