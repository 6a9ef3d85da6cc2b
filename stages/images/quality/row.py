"""What is known of a file, a row and a vector: apart from what reads one, which the main process need not import."""

from dataclasses import dataclass

CELLS, ORIENTATIONS = 4, 6  # of a picture's features: cells along a side, directions of edges
WIDTH = CELLS * CELLS * (ORIENTATIONS + 3)
LEVELS = 4  # of each channel in a palette
COLOURS = LEVELS**3
LENGTH = WIDTH + COLOURS  # of the vector that stands for a picture: its features, then its palette


@dataclass
class Measurements:
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
    frame_contact: float | None = None
    watermark_shapes: int | None = None
    phash: str = ""
    problem: str = ""


def columns(row: Measurements) -> dict[str, object]:
    """A row => its cells, by column."""
    return vars(row)
