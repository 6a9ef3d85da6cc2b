"""The `report` section."""

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel):
    """What the page is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = Field(None, description="Heading of the page; null: the placeholder token.")
