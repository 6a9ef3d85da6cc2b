"""The `report` section."""

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel):
    """What the page says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = Field(None, description="Heading of the page; null: the word that was learnt.")
