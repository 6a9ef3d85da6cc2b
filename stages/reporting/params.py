"""The `report` section."""

from pydantic import Field

from stages.common.schema import Section


class Report(Section):
    """What the page is called."""

    title: str | None = Field(None, description="Heading of the page; null: the placeholder token.")
