"""What the manifest says of a file: apart from all that reads one, so that the main process need not import that."""

from dataclasses import dataclass


@dataclass
class Row:
    """What is known of a file by looking at it alone. Numbers are None where there is no picture."""

    file: str
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    mode: str = ""
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    exif_rotation: int | None = None
    transparent: bool | None = None
    sharpness: float | None = None
    jpeg_quality: int | None = None
    blocking: float | None = None
    noise: float | None = None
    contrast: float | None = None
    border_colour: str = ""
    border_plain: float | None = None
    border_flat: float | None = None
    subject_share: float | None = None
    touching: float | None = None
    marks: int | None = None
    phash: str = ""
    problem: str = ""


def columns(row: Row) -> dict[str, object]:
    """A row => its cells, by column."""
    return vars(row)
