"""Measure one file: what it is, and the quality of its image."""

import signal
import stat
from pathlib import Path

import imagehash
import numpy as np

from stages.common.files import sha256
from stages.images.quality import background, metrics
from stages.images.quality.canvas import WHITE, flatten, shrink
from stages.images.quality.decode import UnreadableError, decode
from stages.images.quality.features import COLOURS, WIDTH, descriptor, palette
from stages.images.quality.watermarks import watermark_shapes

COLUMNS = (
    *("file", "sha256", "bytes", "format", "mode", "width", "height", "frames", "exif_rotation", "transparent"),
    *("sharpness", "jpeg_quality", "blocking", "noise", "contrast", "border_colour", "border_plain", "border_flat"),
    *("subject_share", "frame_contact", "watermark_shapes", "phash"),
)
SECONDS = 60  # no sound image takes longer
MOST_MIB = 512
SHARPNESS_SIDE, WATERMARK_SIDE, SUBJECT_SIDE = 256, 128, 64  # longer side in pixels at which each is measured


class TimeLimitError(BaseException):
    """The time limit has passed. Not an Exception, because decoders catch those."""


def measure_file(name: str, raw: Path, max_megapixels: float) -> tuple[dict, np.ndarray]:
    """Return the COLUMNS of the file `raw`/`name` and its features [WIDTH + COLOURS].

    A file without a usable image raises nothing; it has a `reason`, a `detail`, no `phash`, and features of 0.
    """
    row, features = unreadable_file(name, "", "")
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    try:
        path = _regular_file(raw / name)
        row |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
        columns, features = _measure_image(path.read_bytes(), max_megapixels)
        row |= columns
    except (UnreadableError, TimeLimitError) as error:
        row["reason"], row["detail"] = error.args
    except OSError as error:
        row["reason"], row["detail"] = "unreadable", error.strerror
    finally:
        signal.alarm(0)
    return row, features


def unreadable_file(name: str, reason: str, detail: str) -> tuple[dict, np.ndarray]:
    """Return what `measure_file` does for a file without a usable image."""
    printable = name.encode("utf-8", "backslashreplace").decode()  # a file name may not be UTF-8, the manifest is
    return dict.fromkeys(COLUMNS) | {"file": printable, "reason": reason, "detail": detail}, np.zeros(WIDTH + COLOURS)


def _stop(*_: object) -> None:
    raise TimeLimitError("slow-to-decode", f"takes more than {SECONDS} s")


def _regular_file(path: Path) -> Path:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("not-a-file", "a link, pipe or device")
    if status.st_size > MOST_MIB << 20:
        raise UnreadableError("too-large", f"{status.st_size >> 20} MiB, at most {MOST_MIB} allowed")
    if not status.st_size:
        raise UnreadableError("empty-file", "0 bytes")
    return path


def _measure_image(content: bytes, max_megapixels: float) -> tuple[dict, np.ndarray]:
    image, columns = decode(content, max_megapixels)
    image = flatten(image, WHITE)
    grey, small = image.convert("L"), shrink(image, SUBJECT_SIDE)
    levels, pixels, letters = np.asarray(grey), np.asarray(small), np.asarray(shrink(image, WATERMARK_SIDE))
    colour = background.border_colour(pixels)
    border = background.colour_distance(background.frame_pixels(pixels), colour)
    mask, letter_mask = (background.colour_distance(part, colour) > background.PLAIN for part in (pixels, letters))
    plain, flat = (float((border <= limit).mean()) for limit in (background.PLAIN, background.FLAT))
    columns |= {
        "sharpness": metrics.sharpness(np.asarray(shrink(grey, SHARPNESS_SIDE))),
        "blocking": metrics.blocking(levels),
        "noise": metrics.noise(levels),
        "contrast": metrics.contrast(levels),
        "border_colour": "#{:02x}{:02x}{:02x}".format(*colour),
        "border_plain": plain,
        "border_flat": flat,
        "subject_share": float(mask.mean()),
        "frame_contact": background.frame_contact(mask),
        "watermark_shapes": watermark_shapes(letters, letter_mask) if flat >= background.FRAMED else 0,
        "phash": str(imagehash.phash(small)),
    }
    columns = {name: round(value, 4) if isinstance(value, float) else value for name, value in columns.items()}
    return columns, np.concatenate([descriptor(small, mask), palette(pixels)])
