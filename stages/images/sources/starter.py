"""`source: starter`: the built-in world's own class folder."""

from pathlib import Path

from starter.world.dataset import build

NAME = "Emberwing"


def fetch(raw: Path) -> dict:
    """The world's seed => `raw/Emberwing/<file>`, its 52 pictures with all their defects."""
    build(raw, NAME)
    files = [path for path in (raw / NAME).iterdir() if path.is_file()]
    return {
        "name": NAME,
        "classes": {NAME: len(files)},
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "left_out": {},
        "licence": "as this repository",
    }
