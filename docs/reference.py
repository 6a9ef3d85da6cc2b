"""Generate docs/params.md from the schemas: python docs/reference.py > docs/params.md"""

import sys
import types
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from stages.common.params import SECTIONS, schema  # noqa: E402

HEAD = """# params.yaml, field by field

Generated from the schemas by `python docs/reference.py > docs/params.md`; a test compares the two. An unknown key or an
invalid value fails before any stage runs.

The file needs every section but `runtime`, because DVC refuses a file without a section that a stage tracks; write
`report: {}` to take the defaults of a section.

A stage tracks the sections that it reads: a change reruns these stages and the stages after them. `runtime` changes
speed and memory; results stay the same up to rounding, and no stage tracks it.
"""
SIGNS = {
    Ge: ("≥", "ge"),
    Gt: (">", "gt"),
    Le: ("≤", "le"),
    Lt: ("<", "lt"),
    MultipleOf: ("a multiple of", "multiple_of"),
}
NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(section(name, schema(name)) for name in SECTIONS)])


def section(name: str, model: type[BaseModel]) -> str:
    """Return the heading, the description and the table of a section."""
    lines = [
        f"## `{name}`\n",
        " ".join((model.__doc__ or "").split()) + "\n",
        "| field | default | allowed | meaning |",
    ]
    lines.append("|---|---|---|---|")
    return "\n".join([*lines, *rows(model, ""), ""])


def rows(model: type[BaseModel], prefix: str) -> list[str]:
    """Return a table row per field; the fields of nested schemas follow with dotted names."""
    lines = []
    for name, field in model.model_fields.items():
        full = prefix + (field.alias or name)
        columns = (f"`{full}`", default(field), allowed(field.annotation, field.metadata), field.description or "")
        lines.append("| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |")
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                lines += rows(inner, f"{full}.")
    return lines


def default(field: FieldInfo) -> str:
    """Return the default of a field as it would be written in params.yaml."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "(required)"
    if value is None or isinstance(value, bool):
        return f"`{ {None: 'null', True: 'true', False: 'false'}[value] }`".replace(" ", "")
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else '`""`'


def allowed(kind: object, limits: list) -> str:
    """Describe a type and its limits."""
    generic, inner = get_origin(kind), get_args(kind)
    if generic is Annotated:
        text = allowed(inner[0], [*limits, *inner[1:]])
    elif generic is Literal:
        text = ", ".join(f"`{value}`" for value in inner)
    elif generic in (Union, types.UnionType):
        text = " or ".join(allowed(option, limits) for option in inner)
    elif generic is list:
        text = f"list of: {allowed(inner[0], [])}"
    elif generic is dict:
        text = f"name: {allowed(inner[1], [])}"
    elif kind is types.NoneType:
        text = "`null`"
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        text = "the keys below"
    else:
        text = f"{NAMES[kind.__name__]} {bounds(limits) if kind in (int, float) else ''}".rstrip()
    return text


def bounds(limits: list) -> str:
    """Describe the limits of a number, such as `≥ 1, < 10`."""
    flat = [item for limit in limits for item in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    return ", ".join(
        f"{sign} {getattr(item, key)}" for kind, (sign, key) in SIGNS.items() for item in flat if isinstance(item, kind)
    )


if __name__ == "__main__":
    print(page(), end="")
