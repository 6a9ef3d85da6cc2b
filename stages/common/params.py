"""Load params.yaml, validate every section, and report the first error in one sentence.

`Section` is the base of the sections' schemas.
"""

import difflib
import importlib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from ruamel.yaml import YAML

from stages import UserError

# Named, not imported: every stage validates the whole file before it starts, but depends only on the packages that it
# imports, so that a changed schema reruns its own stage and no other.
SECTIONS = {
    "dataset": "stages.images.sources.params:Dataset",
    "filter": "stages.images.quality.params:Filter",
    "curate": "stages.images.selection.params:Curate",
    "model": "stages.models.params:Model",
    "concept": "stages.models.params:Concept",
    "train": "stages.inversion.params:Train",
    "render": "stages.rendering.params:Render",
    "evaluate": "stages.scoring.params:Evaluate",
    "report": "stages.reporting.params:Report",
    "runtime": "stages.common.runtime:Runtime",
}
MAX_CHARACTERS = 10**6


def load(*names: str, path: Path = Path("params.yaml")) -> SimpleNamespace:
    """Return the named sections of params.yaml as attributes. Raises UserError if any section is invalid."""
    sections = validate(read(path), path)
    return SimpleNamespace(**{name: sections[name] for name in names})


def read(path: Path) -> dict:
    """Return the mapping in a YAML 1.2 file, parsed as DVC parses it (1e-5 is a number, no is a string)."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"more than {MAX_CHARACTERS} characters")
        value = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the root of the project.") from None
    except Exception as error:  # ruamel raises errors of almost every class for junk behind a tag.
        cause = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is not valid YAML: {cause}; correct that line.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} has no sections; it needs {', '.join(SECTIONS)}.")
    return value


def validate(values: dict, path: Path) -> dict[str, BaseModel]:
    """Return every section, validated. DVC, too, refuses a file without a section that a stage tracks."""
    for name in map(_key, values):
        if name not in SECTIONS:
            raise UserError(
                f"{path}: unknown section `{name}`;{_suggestion(name, SECTIONS)} allowed: {', '.join(SECTIONS)}."
            )
    for name in SECTIONS.keys() - {"runtime"} - values.keys():
        raise UserError(f"{path} has no section `{name}`; write `{name}: {{}}` for its defaults.")
    return {name: _section(name, {} if values.get(name) is None else values[name], path) for name in SECTIONS}


def schema(name: str) -> type[BaseModel]:
    """Return the pydantic model of a section of params.yaml."""
    module, _, attribute = SECTIONS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _section(name: str, value: object, path: Path) -> BaseModel:
    try:
        section = schema(name).model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {_message(name, schema(name), error.errors()[0])}") from None
    if "${" in section.model_dump_json():
        raise UserError(
            f"{path}: a value in `{name}` contains `${{`, which `dvc exp run -S` replaces by another param; write it "
            "without the brace."
        )
    return section


def _message(section: str, model: type[BaseModel], error: dict) -> str:
    """Return one of pydantic's errors as a sentence: which key, what is wrong, what is allowed."""
    key = ".".join([section, *(_key(part) for part in error["loc"] if not _is_union_branch(part))])
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        allowed = _keys(model, error["loc"][:-1])
        return f"unknown key `{key}`;{_suggestion(_key(error['loc'][-1]), allowed)} allowed: {', '.join(allowed)}."
    if kind == "missing":
        return f"`{key}` is missing; {_description(model, error['loc'])}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind == "value_error" and len(error["loc"]) == 0:
        return f"`{key}`: {message}."
    return f"`{key}` is {reprlib.repr(value)}: {message}. {_description(model, error['loc'])}".rstrip()


def _key(name: object) -> str:
    """Return a key of params.yaml as messages show it: short, and in one line."""
    return name if isinstance(name, str) and name.isprintable() and len(name) < 100 else reprlib.repr(name)


def _is_union_branch(part: object) -> bool:
    """Return whether a part of pydantic's location names a branch of a union, which is no key of the file."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-", "function-")) or part in _TYPES)


_TYPES = {"int", "float", "bool", "str", "list", "dict"}


def _keys(model: type[BaseModel], location: tuple) -> list[str]:
    """Return the keys that are allowed at a location of a section."""
    for part in location:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _description(model: type[BaseModel], location: tuple) -> str:
    """Return the description of the param at a location of a section."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    field = fields.get(str(location[0])) if location else None
    return field.description if field and field.description else ""


def _suggestion(name: str, allowed: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" did you mean `{matches[0]}`?" if matches else ""


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
