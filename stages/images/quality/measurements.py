"""A file => a row of the manifest, and what is left of the picture for its features."""

import hashlib
import stat
from pathlib import Path

import numpy as np
from PIL import Image

from stages.images.quality import background, metrics, watermarks
from stages.images.quality.decode import UnreadableError, decode, flatten
from stages.images.quality.features import colours, describe, hashes, look, palettes, shade
from stages.images.quality.row import LENGTH, Measurements

LARGEST_MIB = 512
WHITE = (255, 255, 255)


class TooLongError(Exception):
    """Raised in the middle of `inspect` when a file takes too long; its row then says so."""


def inspect(path: Path, name: str, max_megapixels: float) -> tuple[Measurements, Image.Image | None]:
    """A file and the name to call it by => what it is, and its picture (RGB). Never raises for what is in it."""
    row = Measurements(name)
    try:
        content = _read(path)
        row.bytes, row.sha256 = len(content), hashlib.sha256(content).hexdigest()
        picture = decode(content, max_megapixels)
    except UnreadableError as problem:
        row.problem = str(problem)
        return row, None
    except TooLongError:
        row.problem = "takes more than a minute to decode"
        return row, None
    for key in ("format", "mode", "width", "height", "frames", "exif_rotation", "transparent"):
        setattr(row, key, getattr(picture, key))
    row.jpeg_quality = metrics.jpeg_quality(picture.luma) if picture.luma else None
    return row, flatten(picture.image, WHITE)


def _read(path: Path) -> bytes:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise UnreadableError("link")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a file")
        if status.st_size > LARGEST_MIB << 20:
            raise UnreadableError(f"larger than {LARGEST_MIB} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {(error.strerror or 'unknown').lower()}") from None


def view(rows: list[Measurements], images: list[Image.Image]) -> np.ndarray:
    """Pictures, n of them => their numbers into `rows` => their vectors [n, LENGTH].

    Each measure goes through all pictures before the next one begins, for it is short, and takes longer whenever its
    code has left the processor's cache. No number of a picture depends on which others are measured with it.
    """
    _lines(rows, images)
    small = [metrics.shrink(image, metrics.SIDE // 4) for image in images]
    for row, text in zip(rows, hashes(np.stack([shade(one) for one in small])), strict=True):
        row.phash = text
    vectors = np.empty((len(rows), LENGTH), np.float32)
    for places in metrics.alike([one.size for one in small]):
        vectors[places] = _subjects(*([each[i] for i in places] for each in (rows, images, small)))
    return vectors


def _subjects(rows: list[Measurements], images: list[Image.Image], small: list[Image.Image]) -> np.ndarray:
    """Pictures, and they made small, to one size => what is of their ground and subject, as `view`."""
    planes = background.planes(np.stack([np.asarray(one) for one in small]))
    frames = background.frame(planes)
    borders = background.border(frames)
    masks = background.subject(planes, borders[0])
    touching = background.frame_contact(masks)
    for i, (row, colour, plain, flat) in enumerate(zip(rows, *(one.tolist() for one in borders), strict=True)):
        row.border_colour = "#{:02x}{:02x}{:02x}".format(*colour)
        row.border_plain, row.border_flat = _short(plain), _short(flat)
        row.subject_share, row.frame_contact = _short(np.count_nonzero(masks[i]) / masks[i].size), _short(touching[i])
        strewn = flat >= background.FRAMED and watermarks.strewn(masks[i], 3)  # else it is too whole to be letters
        row.watermark_shapes = _marks(images[i], borders[0][i]) if strewn else 0
    looks = np.stack([look(one, mask) for one, mask in zip(small, masks, strict=True)])
    found = palettes(colours(planes.reshape(len(planes), 3, -1)), colours(frames))
    return np.concatenate([describe(looks), found], axis=1)


def _lines(rows: list[Measurements], images: list[Image.Image]) -> None:
    """Pictures => the numbers of their grey levels into `rows`."""
    grey = [image.convert("L") for image in images]
    levels = [np.asarray(one) for one in grey]
    lines = [metrics.directions(one) for one in levels]
    for row, one, image in zip(rows, lines, grey, strict=True):
        small_enough = max(image.size) <= metrics.SIDE
        scaled = one if small_enough else metrics.directions(np.asarray(metrics.shrink(image, metrics.SIDE)))
        row.sharpness = _short(metrics.sharpness(scaled))
    for row, value in zip(rows, metrics.blocking(lines), strict=True):
        row.blocking = _short(value)
    for row, one in zip(rows, lines, strict=True):
        row.contrast = _short(metrics.contrast(one))
    for row, one in zip(rows, levels, strict=True):
        row.noise = _short(metrics.noise(one))


def _marks(image: Image.Image, colour: np.ndarray) -> int:
    planes = background.planes(np.asarray(metrics.shrink(image, metrics.SIDE // 2)))
    return watermarks.watermark_shapes(planes, background.subject(planes, colour))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)  # what is written is what is compared with a threshold
