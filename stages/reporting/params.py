"""The `report` section."""

from pydantic import BaseModel, Field


class Report(BaseModel, frozen=True, extra="forbid"):
    """What the page is called."""

    title: str | None = Field(None, description="Heading of the page; null: the placeholder token.")
