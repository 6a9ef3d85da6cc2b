"""Where a result comes from: its params, data, weights, code and versions, and one fingerprint of them all."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from stages.common.files import fingerprint

LIBRARIES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Origin:
    """Sections by name, versions by library, fingerprints of the data and of everything (`run`)."""

    params: dict[str, dict]
    versions: dict[str, str]
    data: str
    run: str


def origin(sections: dict[str, BaseModel], data: Path, base: str, rooms: tuple[str, ...]) -> Origin:
    """Sections, the folder of data, the base model, the rooms whose code decides => the origin."""
    params = {name: section.model_dump(mode="json") for name, section in sections.items()}
    known = fingerprint(data)
    return Origin(params, versions(), known, fingerprint(params, known, *ground(base, rooms)))


def ground(base: str, rooms: tuple[str, ...]) -> list[object]:
    """The base model, the rooms whose code decides => what every result of theirs stands on, for a fingerprint.

    The weights of a folder count by size and time, for reading gigabytes would cost more than it tells.
    """
    weights = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(base).rglob("*.*"))]
    code = sorted(p for room in rooms for p in Path(__file__).parents[1].joinpath(room).rglob("*.py"))
    return [weights, versions(), *code]


def versions() -> dict[str, str]:
    """=> library => version, of those that decide numbers."""
    return {library: version(library) for library in LIBRARIES}
