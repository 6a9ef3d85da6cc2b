"""Identify a result by its params, data, base model, code and library versions."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from stages.common.hashing import fingerprint

LIBRARIES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Provenance:
    """The params by section, library versions, and two fingerprints: of the data alone, and of everything (`run`)."""

    params: dict[str, dict]
    versions: dict[str, str]
    data: str
    run: str


def provenance(sections: dict[str, BaseModel], data: Path, base: str, packages: tuple[str, ...]) -> Provenance:
    """Return the provenance of a result of `packages`, made from `sections`, the folder `data` and the model `base`."""
    params = {name: section.model_dump(mode="json") for name, section in sections.items()}
    return Provenance(
        params, versions(), fingerprint(data), fingerprint(params, data, *code_and_weights(base, packages))
    )


def code_and_weights(base: str, packages: tuple[str, ...]) -> list[object]:
    """Return what a result depends on besides its params and data, as values for `fingerprint`.

    A base model in a local folder counts by its content, one on the hub by its commit, which is among the params.
    """
    weights = [Path(base)] if Path(base).is_dir() else []
    code = sorted(path for name in packages for path in Path(__file__).parents[1].joinpath(name).rglob("*.py"))
    return [*weights, versions(), *code]


def versions() -> dict[str, str]:
    """Return the public versions of the libraries that decide numbers (2.13.0 for a wheel of 2.13.0+cpu)."""
    return {library: version(library).partition("+")[0] for library in LIBRARIES}
