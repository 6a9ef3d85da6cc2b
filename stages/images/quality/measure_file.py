"""Measure one file: what it is, and the quality of its image."""

from pathlib import Path

import imagehash
import numpy as np
from PIL import ImageOps

from stages.common.hashing import sha256
from stages.images.quality import background, metrics
from stages.images.quality.decode import WHITE, UnreadableError, decode, flatten, shrink
from stages.images.quality.features import COLOURS, WIDTH, descriptor, palette
from stages.images.quality.watermarks import watermark_shapes

COLUMNS = (
    *("file", "sha256", "bytes", "format", "mode", "width", "height", "frames", "exif_rotation", "transparent"),
    *("sharpness", "jpeg_quality", "blocking", "noise", "flat_noise", "contrast", "border_colour", "border_plain"),
    *("border_flat", "subject_share", "frame_contact", "watermark_shapes", "phash", "fine_phash", "mirror_phash"),
)
SHARPNESS_SIDE, WATERMARK_SIDE, SUBJECT_SIDE = 256, 128, 64  # longer side in pixels at which each is measured


def measure_file(name: str, raw: Path, max_megapixels: float) -> tuple[dict, np.ndarray]:
    """Return the COLUMNS of the file `raw`/`name` and its features [WIDTH + COLOURS].

    A file without a usable image raises nothing; it has a `reason`, a `detail`, no `phash`, and features of 0.
    """
    row, features = unreadable_file(name, "", "")
    try:
        row |= {"bytes": _file_size(raw / name), "sha256": sha256(raw / name)}
        columns, features = _measure_image((raw / name).read_bytes(), max_megapixels)
        row |= columns
    except UnreadableError as error:
        row["reason"], row["detail"] = error.args
    except OSError as error:
        row["reason"], row["detail"] = "unreadable", error.strerror
    return row, features


def unreadable_file(name: str, reason: str, detail: str) -> tuple[dict, np.ndarray]:
    """Return what `measure_file` does for a file without a usable image."""
    printable = name.encode("utf-8", "backslashreplace").decode()  # a file name may not be UTF-8, the manifest is
    row = dict.fromkeys(COLUMNS) | {"file": printable, "reason": reason, "detail": detail}
    return row, np.zeros(WIDTH + COLOURS, np.float32)


def _file_size(path: Path) -> int:
    if path.is_symlink() or not path.is_file():
        raise UnreadableError("not-a-file", "a link, pipe or device")
    size = path.stat().st_size
    if size > 512 << 20:
        raise UnreadableError("too-large", f"{size >> 20} MiB, at most 512 allowed")
    if not size:
        raise UnreadableError("empty-file", "0 bytes")
    return size


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
        **dict(zip(("noise", "flat_noise"), metrics.noise(levels), strict=True)),
        "contrast": metrics.contrast(levels),
        "border_colour": "#{:02x}{:02x}{:02x}".format(*colour),
        "border_plain": plain,
        "border_flat": flat,
        "subject_share": float(mask.mean()),
        "frame_contact": background.frame_contact(mask),
        "watermark_shapes": watermark_shapes(letters, letter_mask) if flat >= background.FRAMED else 0,
        "phash": str(imagehash.phash(small)),
        "fine_phash": str(imagehash.phash(small, 12)),
        "mirror_phash": str(imagehash.phash(ImageOps.mirror(small), 12)),
    }
    columns = {name: round(value, 4) if isinstance(value, float) else value for name, value in columns.items()}
    return columns, np.concatenate([descriptor(small, mask), palette(pixels)], dtype=np.float32)
