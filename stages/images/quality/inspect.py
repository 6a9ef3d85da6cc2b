"""A file => a row of the manifest and its features; many files => many rows, over the cores."""

import hashlib
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from stages.images.quality import measure
from stages.images.quality.decode import NoPictureError, Picture, decode, flatten
from stages.images.quality.features import COLOURS, WIDTH, describe, hashes, look, palette, shade

LONGEST_S = 60  # no honest picture takes a minute to decode
LARGEST_MIB = 512
CHUNK = 64
WHITE = (255, 255, 255)
LENGTH = WIDTH + COLOURS  # of the vector that stands for a picture: its features, then its palette


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
    shade: np.ndarray  # of features.shade
    palette: np.ndarray  # [COLOURS]


def inspect(path: Path, name: str, max_megapixels: float) -> tuple[Row, View | None]:
    """A file and the name to call it by => its row, but for its hash, and its view. Never raises for what is in it."""
    row, view = Row(name), None
    try:
        content = _read(path)
        row.bytes, row.sha256 = len(content), hashlib.sha256(content).hexdigest()
        view = _measure(decode(content, max_megapixels), row)
    except NoPictureError as problem:
        row.problem = str(problem)
    except _TooLongError:
        row.problem = "takes more than a minute to decode"
    return row, view


def inspect_all(files: list[tuple[str, str]], max_megapixels: float, workers: int) -> Iterator[tuple[Row, np.ndarray]]:
    """(path, name)s => their rows and vectors, in the order given, by `workers` processes.

    Holds a few chunks at a time, whatever the number of files. A file that ends the process that reads it (a decoder's
    fault) is found by reading its chunk again, one process a file, and has a row that says so.
    """
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    if workers == 1 or len(files) <= CHUNK:
        yield from _in_one_process(chunks, max_megapixels)
        return
    waiting = iter(chunks)
    pool = _pool(workers)
    running = [
        (chunk, pool.submit(_chunk, chunk, max_megapixels))
        for chunk, _ in zip(waiting, range(3 * workers), strict=False)
    ]
    try:
        while running:
            chunk, future = running.pop(0)
            try:
                yield from future.result()
            except BrokenProcessPool:
                yield from _one_by_one(chunk, max_megapixels)
                pool = _pool(workers)
                running = [(c, pool.submit(_chunk, c, max_megapixels)) for c, _ in running]
            following = next(waiting, None)
            if following is not None:
                running.append((following, pool.submit(_chunk, following, max_megapixels)))
    finally:
        pool.shutdown(cancel_futures=True)


class _TooLongError(Exception):
    pass


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"), initializer=_quiet)


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone says that it was interrupted


def _in_one_process(chunks: list, max_megapixels: float) -> Iterator[tuple[Row, np.ndarray]]:
    """Few files: not worth starting several processes, but still one that is not ours to lose."""
    pool = _pool(1)
    try:
        for chunk in chunks:
            try:
                yield from pool.submit(_chunk, chunk, max_megapixels).result()
            except BrokenProcessPool:
                yield from _one_by_one(chunk, max_megapixels)
                pool = _pool(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(chunk: list[tuple[str, str]], max_megapixels: float) -> Iterator[tuple[Row, np.ndarray]]:
    for file in chunk:
        with _pool(1) as pool:
            try:
                yield from pool.submit(_chunk, [file], max_megapixels).result()
            except BrokenProcessPool:
                yield Row(file[1], problem="ends the decoder"), np.zeros(LENGTH, np.float32)


def _chunk(chunk: list[tuple[str, str]], max_megapixels: float) -> list[tuple[Row, np.ndarray]]:
    signal.signal(signal.SIGALRM, _stop)
    seen = []
    for path, name in chunk:
        signal.alarm(LONGEST_S)
        seen.append(inspect(Path(path), name, max_megapixels))
        signal.alarm(0)
    vectors = np.zeros((len(seen), LENGTH), np.float32)
    pictures = [i for i, (_, view) in enumerate(seen) if view]
    if pictures:
        views = [seen[i][1] for i in pictures]
        vectors[pictures, :WIDTH] = describe(np.stack([view.look for view in views]))
        vectors[pictures, WIDTH:] = np.stack([view.palette for view in views])
        for i, text in zip(pictures, hashes(np.stack([view.shade for view in views])), strict=True):
            seen[i][0].phash = text
    return [(row, vector) for (row, _), vector in zip(seen, vectors, strict=True)]


def _stop(*_: object) -> None:
    raise _TooLongError


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
    small = measure.shrink(image, measure.SIDE // 4)
    pixels = np.asarray(small)
    colour, plain, flat = measure.border(pixels)
    mask = measure.subject(pixels, colour)
    lines = measure.directions(levels)
    small_enough = max(image.size) <= measure.SIDE
    scaled = lines if small_enough else measure.directions(np.asarray(measure.shrink(grey, measure.SIDE)))
    row.sharpness = _short(measure.sharpness(scaled))
    row.jpeg_quality = measure.jpeg_quality(picture.luma) if picture.luma else None
    row.blocking = _short(measure.blocking(lines))
    row.noise = _short(measure.noise(levels))
    row.contrast = _short(measure.contrast(grey))
    row.border_colour = "#{:02x}{:02x}{:02x}".format(*colour)
    row.border_plain, row.border_flat = _short(plain), _short(flat)
    row.subject_share, row.touching = _short(float(mask.mean())), _short(measure.touching(mask))
    row.marks = _marks(image, colour) if flat >= measure.FRAMED else 0
    return View(look(small, mask), shade(small), palette(pixels))


def _marks(image: Image.Image, colour: tuple[int, int, int]) -> int:
    pixels = np.asarray(measure.shrink(image, measure.SIDE // 2))
    return measure.marks(pixels, measure.subject(pixels, colour))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)  # what is written is what is compared with a threshold


def columns(row: Row) -> dict[str, object]:
    """A row => its cells, by column."""
    return asdict(row)
