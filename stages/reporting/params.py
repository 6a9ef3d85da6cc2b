"""The `report` section."""

from pydantic import Field

from stages.common.params import Line, Section


class Report(Section):
    """What the page is called."""

    title: Line | None = Field(None, description="Heading of the page; null: the placeholder token.")
