"""The base of all sections of params.yaml, and the types of their texts."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field


class Section(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """A section that refuses unknown keys, values of another type (`true` is no number), NaN and infinities."""


def _is_name(value: str) -> str:
    if not value.isprintable():
        raise ValueError("contains a line break or another character that cannot be printed")
    if any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError("is longer than the 255 bytes that file systems allow in a name")
    return value


# A path, name or word, in one line; and a text of any kind, such as a prompt.
Line = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_is_name)]
Text = Annotated[str, Field(max_length=10_000)]
