"""params.yaml => checked sections, or one clear sentence."""

import difflib
import importlib
from pathlib import Path
from types import SimpleNamespace

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML, YAMLError

from stages import UserError

# By name, not by import: every entry checks the whole file before it works, but depends only on the rooms it imports,
# so that a changed schema reruns its own stages and no other. Another room's schema can refuse a run, never change it.
SECTIONS = {
    "dataset": "stages.images.params:Dataset",
    "filter": "stages.images.params:Filter",
    "curate": "stages.images.params:Curate",
    "model": "stages.models.params:Model",
    "concept": "stages.models.params:Concept",
    "train": "stages.inversion.params:Train",
    "render": "stages.rendering.params:Render",
    "evaluate": "stages.scoring.params:Evaluate",
    "report": "stages.reporting.params:Report",
    "runtime": "stages.common.runtime:Runtime",
}


def load(*names: str, path: Path = Path("params.yaml")) -> SimpleNamespace:
    """params.yaml => the sections asked for, as attributes. Raises UserError for anything wrong in any section."""
    sections = check(read(path), path)
    return SimpleNamespace(**{name: sections[name] for name in names})


def read(path: Path) -> dict:
    """A YAML 1.2 file, as DVC reads it (so 1e-5 is a number and no is a word) => its mapping."""
    try:
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not here; run from the root of the project.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}; mend that line.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} has no sections; it needs {', '.join(SECTIONS)}.")
    return value


def check(values: dict, path: Path) -> dict[str, BaseModel]:
    """The whole mapping => every section, validated. A section left out has its defaults where all its fields do."""
    for name in values:
        if name not in SECTIONS:
            raise UserError(
                f"{path}: unknown section `{name}`;{_nearest(name, SECTIONS)} allowed: {', '.join(SECTIONS)}."
            )
    return {name: _section(name, values.get(name) or {}, path) for name in SECTIONS}


def schema(name: str) -> type[BaseModel]:
    """A section's name => its schema."""
    module, _, attribute = SECTIONS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _section(name: str, value: object, path: Path) -> BaseModel:
    try:
        return schema(name).model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(name, schema(name), error.errors()[0])}") from None


def _sentence(section: str, model: type[BaseModel], error: dict) -> str:
    """pydantic's first error => where, what, and what is allowed."""
    where = ".".join([section, *(str(part) for part in error["loc"] if not _is_branch(part))])
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _fields(model, error["loc"][:-1])
        return f"unknown key `{where}`;{_nearest(str(error['loc'][-1]), known)} allowed: {', '.join(known)}."
    if kind == "missing":
        return f"`{where}` is missing; {_meaning(model, error['loc'])}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind == "value_error" and len(error["loc"]) == 0:
        return f"`{where}`: {message}."
    return f"`{where}` is {given!r}: {message}. {_meaning(model, error['loc'])}".rstrip()


def _is_branch(part: object) -> bool:
    """pydantic puts the name of a union's branch into a location; it is no key of the file."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-", "function-")) or part in _TYPES)


_TYPES = {"int", "float", "bool", "str", "list", "dict"}


def _fields(model: type[BaseModel], location: tuple) -> list[str]:
    """A model and the way to a sub-model => the keys that are allowed there."""
    for part in location:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _meaning(model: type[BaseModel], location: tuple) -> str:
    """The sentence under a field, for the end of a complaint."""
    names = {field.alias or name: field for name, field in model.model_fields.items()}
    field = names.get(str(location[0])) if location else None
    return field.description if field and field.description else ""


def _nearest(name: str, known: object) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" did you mean `{near[0]}`?" if near else ""
