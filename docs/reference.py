"""The schemas => docs/params.md:  python docs/reference.py > docs/params.md"""

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

Written by `python docs/reference.py > docs/params.md` from the schemas; a test holds it to them. A key that is not here
is refused before anything runs, and so is a value that is not allowed.

A stage tracks the sections that it reads: a change reruns those stages and what follows from them. `runtime` changes
speed or memory, never a result, and no stage tracks it.
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
    """=> the whole page."""
    return "\n".join([HEAD, *(section(name, schema(name)) for name in SECTIONS)])


def section(name: str, model: type[BaseModel]) -> str:
    """A section's schema => its heading, its sentence, its table."""
    lines = [
        f"## `{name}`\n",
        " ".join((model.__doc__ or "").split()) + "\n",
        "| field | default | allowed | meaning |",
    ]
    lines.append("|---|---|---|---|")
    return "\n".join([*lines, *rows(model, ""), ""])


def rows(model: type[BaseModel], prefix: str) -> list[str]:
    """A schema => a row a field; those of a schema within it follow with dotted names."""
    found = []
    for name, field in model.model_fields.items():
        full = prefix + (field.alias or name)
        cells = (f"`{full}`", default(field), allowed(field.annotation, field.metadata), field.description or "")
        found.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += rows(inner, f"{full}.")
    return found


def default(field: FieldInfo) -> str:
    """=> what stands there when the key is left out, as it would be written."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "(must be given)"
    if value is None or isinstance(value, bool):
        return f"`{ {None: 'null', True: 'true', False: 'false'}[value] }`".replace(" ", "")
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else '`""`'


def allowed(kind: object, limits: list) -> str:
    """A type and its limits => words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        said = allowed(inner[0], [*limits, *inner[1:]])
    elif origin is Literal:
        said = ", ".join(f"`{value}`" for value in inner)
    elif origin in (Union, types.UnionType):
        said = " or ".join(allowed(one, limits) for one in inner)
    elif origin is list:
        said = f"list of: {allowed(inner[0], [])}"
    elif origin is dict:
        said = f"name: {allowed(inner[1], [])}"
    elif kind is types.NoneType:
        said = "`null`"
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        said = "the keys below"
    else:
        said = f"{NAMES[kind.__name__]} {bounds(limits) if kind in (int, float) else ''}".rstrip()
    return said


def bounds(limits: list) -> str:
    """pydantic's limits on a number => ≥ 1, < 10."""
    flat = [one for limit in limits for one in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    return ", ".join(
        f"{sign} {getattr(one, key)}" for kind, (sign, key) in SIGNS.items() for one in flat if isinstance(one, kind)
    )


if __name__ == "__main__":
    print(page(), end="")
