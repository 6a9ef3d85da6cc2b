"""The base of all sections of params.yaml."""

from pydantic import BaseModel


class Section(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """A section that refuses unknown keys, values of another type (`true` is no number), NaN and infinities."""
