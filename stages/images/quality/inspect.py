"""A file => a row of the manifest, and what is left of the picture for its features."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.images.quality import ground, marks, measure
from stages.images.quality.decode import NoPictureError, Picture, decode, flatten
from stages.images.quality.features import colours, look

LARGEST_MIB = 512
WHITE = (255, 255, 255)


class TooLongError(Exception):
    """Raised in the middle of `inspect` when a file takes too long; its row then says so."""


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


@dataclass
class View:
    """What is left of a picture when it is closed; many together become vectors and hashes much faster than each."""

    look: np.ndarray  # of features.look
    small: np.ndarray  # [h, w, 3] uint8, the longer side at most 64, of which features.shades are made
    colours: tuple[np.ndarray, np.ndarray]  # of features.colours, of all and of the frame


def inspect(path: Path, name: str, max_megapixels: float) -> tuple[Row, View | None]:
    """A file and the name to call it by => its row, but for its hash, and its view. Never raises for what is in it."""
    row, view = Row(name), None
    try:
        content = _read(path)
        row.bytes, row.sha256 = len(content), hashlib.sha256(content).hexdigest()
        view = _measure(decode(content, max_megapixels), row)
    except NoPictureError as problem:
        row.problem = str(problem)
    except TooLongError:
        row.problem = "takes more than a minute to decode"
    return row, view


def _read(path: Path) -> bytes:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise NoPictureError("link")
        if not stat.S_ISREG(status.st_mode):
            raise NoPictureError("not a file")
        if status.st_size > LARGEST_MIB << 20:
            raise NoPictureError(f"larger than {LARGEST_MIB} MiB")
        return path.read_bytes()
    except OSError as error:
        raise NoPictureError(f"cannot be read: {(error.strerror or 'unknown').lower()}") from None


def _measure(picture: Picture, row: Row) -> View:
    """A picture => its numbers into `row` => its view."""
    for name in ("format", "mode", "width", "height", "frames", "exif_rotation", "transparent"):
        setattr(row, name, getattr(picture, name))
    image = flatten(picture.image, WHITE)
    grey = image.convert("L")
    levels = np.asarray(grey)
    lines = measure.directions(levels)
    small_enough = max(image.size) <= measure.SIDE
    scaled = lines if small_enough else measure.directions(np.asarray(measure.shrink(grey, measure.SIDE)))
    row.sharpness = _short(measure.sharpness(scaled))
    row.jpeg_quality = measure.jpeg_quality(picture.luma) if picture.luma else None
    row.blocking = _short(measure.blocking(lines))
    row.noise = _short(measure.noise(levels))
    row.contrast = _short(measure.contrast(lines))
    return _subject(image, row)


def _subject(image: Image.Image, row: Row) -> View:
    """RGB => what its ground and its subject are like into `row` => its view."""
    small = measure.shrink(image, measure.SIDE // 4)
    pixels = np.asarray(small)
    planes = ground.planes(pixels)
    frame = ground.frame(planes)
    colour, plain, flat = ground.border(frame)
    mask = ground.subject(planes, colour)
    row.border_colour = "#{:02x}{:02x}{:02x}".format(*colour)
    row.border_plain, row.border_flat = _short(plain), _short(flat)
    row.subject_share, row.touching = _short(np.count_nonzero(mask) / mask.size), _short(ground.touching(mask))
    strewn = flat >= ground.FRAMED and marks.strewn(mask, 3)  # else it is too whole to be letters
    row.marks = _marks(image, colour) if strewn else 0
    return View(look(small, mask), pixels, (colours(planes.reshape(3, -1)), colours(frame)))


def _marks(image: Image.Image, colour: tuple[int, int, int]) -> int:
    planes = ground.planes(np.asarray(measure.shrink(image, measure.SIDE // 2)))
    return marks.marks(planes, ground.subject(planes, colour))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)  # what is written is what is compared with a threshold


def columns(row: Row) -> dict[str, object]:
    """A row => its cells, by column."""
    return vars(row)
